"""`python -m s3sync`."""

import sys

from s3sync.cli import main

if __name__ == "__main__":  # a child of multiprocessing imports this under another name
    sys.exit(main())
