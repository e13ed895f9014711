"""Print the JSON schema of the config: `python -m s3sync.config > conf/s3sync.schema.json`."""

from __future__ import annotations

import sys

from s3sync.config.model import json_schema

if __name__ == "__main__":
    sys.stdout.write(json_schema())
