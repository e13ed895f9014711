"""`python -m s3sync`."""

import sys

from s3sync.cli import main

sys.exit(main())
