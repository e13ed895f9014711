"""The cores that this process may use: affinity and cgroups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3sync.resources import usable_cores

AFFINITY = len(os.sched_getaffinity(0))


def write_tree(root: Path, contents: dict[str, str | bytes]) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


V1 = "12:cpu,cpuacct:/docker/abc\n11:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"


V1_QUOTA = "cpu,cpuacct/docker/abc/cpu.cfs_quota_us"


V1_PERIOD = "cpu,cpuacct/docker/abc/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("cgroups", "tree", "cores"),
    [
        pytest.param(None, {}, AFFINITY, id="no cgroups at all"),
        pytest.param("", {}, AFFINITY, id="no cgroup"),
        pytest.param("0::/\n", {}, AFFINITY, id="v2 root without limits"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, AFFINITY, id="v2 without a limit"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n"}, 1, id="v2 one core"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "199999 100000\n"}, 1, id="v2 not quite two cores"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "20000 100000\n"}, 1, id="v2 a fifth of a core"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "99900000 100000\n"}, AFFINITY, id="v2 more than there are"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "50000 50000\n"}, 1, id="v2 a parent's"),
        pytest.param(
            "0::/a/b\n", {"a/cpu.max": "5000 5000\n", "a/b/cpu.max": "max 100000\n"}, 1, id="v2 a parent's is less"
        ),
        pytest.param("0::/\n", {"cpu.max": "100000 100000\n"}, 1, id="v2 in a namespace of its own"),
        pytest.param("0::/a\n", {"b/cpu.max": "100000 100000\n"}, AFFINITY, id="v2 somebody else's"),
        pytest.param("0::/../x\n", {"x/cpu.max": "100000 100000\n"}, AFFINITY, id="v2 outside of the namespace"),
        pytest.param(V1, {V1_QUOTA: "100000\n", V1_PERIOD: "100000\n"}, 1, id="v1 one core"),
        pytest.param(V1, {V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, AFFINITY, id="v1 without a limit"),
        pytest.param(V1, {V1_QUOTA: "100000\n"}, AFFINITY, id="v1 without a period"),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"},
            1,
            id="v1 in a container, which sees its own group as the root",
        ),
        pytest.param(
            "4:cpuacct,cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "50000\n"},
            1,
            id="v1 mounted under another order of names, with the usual link `cpu`",
        ),
        pytest.param("3:cpuset:/a\n", {"cpuset/a/cpu.max": "1 1\n"}, AFFINITY, id="v1 another controller"),
        pytest.param("0::/a:b\n", {"a:b/cpu.max": "100000 100000\n"}, 1, id="a colon in the name"),
        pytest.param("garbage\n", {}, AFFINITY, id="garbage"),
        pytest.param("\n0::/a\n\n", {"a/cpu.max": "100000 100000\n"}, 1, id="empty lines"),
        pytest.param(b"0::/\xff\n", {}, AFFINITY, id="not UTF-8"),
        *[
            pytest.param("0::/a\n", {"a/cpu.max": content}, AFFINITY, id=f"cpu.max {content!r}")
            for content in ("", "max\n", "100000\n", "x y\n", "1 2 3\n", "100000 0\n", b"\xff\xfe\n")
        ],
        *[
            pytest.param(V1, {V1_QUOTA: quota, V1_PERIOD: period}, AFFINITY, id=f"cfs {quota!r} {period!r}")
            for quota, period in (("", ""), ("x", "100000"), ("100000", "0"), ("100000", "x"), ("0", "100000"))
        ],
    ],
)
def test_usable_cores(tmp_path: Path, cgroups: str | bytes | None, tree: dict[str, str | bytes], cores: int) -> None:
    proc = tmp_path / "proc-self-cgroup"
    if cgroups is not None:
        proc.write_bytes(cgroups.encode() if isinstance(cgroups, str) else cgroups)
    assert usable_cores(proc, write_tree(tmp_path / "cgroup", tree)) == min(cores, AFFINITY)


def test_usable_cores_of_this_machine() -> None:
    assert 1 <= usable_cores() <= AFFINITY
