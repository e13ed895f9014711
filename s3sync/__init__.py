"""Puts Illumina sequencing runs into AWS S3 with the AWS CLI, and proves that every byte arrived."""

__version__ = "0.1.0"
