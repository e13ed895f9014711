"""What simulate_run.py is made of: tables of instruments, the plan of a run, its files, and their writing."""
