"""Provide one module per subcommand: its options, its output and its exit code."""

__all__: list[str] = []  # no other package uses this one
