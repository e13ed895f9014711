"""Provide one module per subcommand: its options, its output and its exit code."""
