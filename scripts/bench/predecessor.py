"""Upload a run as eastgenomics/s3_upload describes its method, for comparison: processes with threads of boto3.

Written from its documentation: all cores, 4 threads in each (its help says 8), a client per process, no parts below
1 GiB, and each ETag read after its file. It reads it with GET; this asks with HEAD, which costs less.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

_CONFIG = Config(
    retries={"total_max_attempts": 10, "mode": "standard"}, max_pool_connections=100, disable_request_compression=True
)
_TRANSFER = TransferConfig(multipart_threshold=1024**3, use_threads=False)


def main() -> None:
    """Upload the folder, and print how many ETags were read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", required=True, help="without slashes at its ends")
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    groups = split_by_size(args.folder, args.cores)
    with ProcessPoolExecutor(args.cores) as pool:
        tasks = [pool.submit(upload, args.folder, group, args.bucket, args.prefix, args.threads) for group in groups]
        print(sum(task.result() for task in tasks), "files")


def split_by_size(folder: Path, groups: int) -> list[list[str]]:
    """Return the paths in the folder, dealt out from the largest to the smallest."""
    sizes = {
        os.path.relpath(os.path.join(where, name), folder): os.path.getsize(os.path.join(where, name))
        for where, _, names in os.walk(folder)
        for name in names
    }
    ordered = sorted(sizes, key=lambda path: (-sizes[path], path))
    return [ordered[number::groups] for number in range(groups)]


def upload(folder: Path, paths: list[str], bucket: str, prefix: str, threads: int) -> int:
    """Upload these files with one client; return how many ETags S3 gave."""
    s3 = boto3.Session().client("s3", config=_CONFIG)

    def send(path: str) -> str:
        key = f"{prefix}/{path}"
        s3.upload_file(str(folder / path), bucket, key, Config=_TRANSFER)
        return str(s3.head_object(Bucket=bucket, Key=key)["ETag"])

    with ThreadPoolExecutor(threads) as pool:
        return len(list(pool.map(send, paths)))


if __name__ == "__main__":
    main()
