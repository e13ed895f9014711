"""Make clients of S3 that do not use the AWS CLI."""

from __future__ import annotations

from typing import Any

import botocore.config
import botocore.session


def client(url: str, access_key: str, secret_key: str) -> Any:
    """A client that is none of the CLI's."""
    session = botocore.session.Session()
    return session.create_client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
