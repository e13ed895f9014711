"""The parts of simulate_run.py: a table of instruments, the plan of a run, its files, and their writing."""
