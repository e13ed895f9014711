"""Upload sequencing runs to S3 with the AWS CLI, and verify every file."""

__version__ = "0.1.0"
