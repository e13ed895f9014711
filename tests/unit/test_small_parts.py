"""The small modules everything else rests on: texts, destinations, cores, locks, files and signals."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync import files
from s3sync.aws.destination import Destination, parse_destination
from s3sync.errors import EXIT_BUSY, BusyError, InterruptedBySignal, LeaseLostError, StateError, UsageError, explained
from s3sync.resources import usable_cores
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.text import human_bytes, human_seconds, now_iso, parse_rate, pluralize, printable, summarize
from tests.helpers.unprivileged import REPOSITORY, run_python, run_unprivileged

# Texts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Data/L001/s_1.bcl.gz", "Data/L001/s_1.bcl.gz"),
        ("", ""),
        ("Zoë 💥 [x] 'y'", "Zoë 💥 [x] 'y'"),
        ("new\nline", r"new\nline"),
        ("a\r\tb\0", r"a\r\tb\x00"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("bidi\u202egpj.exe\u2066", r"bidi\u202egpj.exe\u2066"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("lines\u2028\u2029\x85", r"lines\u2028\u2029\x85"),
        ("tag\U000e0001", r"tag\U000e0001"),
        (os.fsdecode(b"f\xff\xe9"), r"f\xff\xe9"),
        (os.fsdecode(b"f\xff\n"), r"f\xff\n"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(name: str, text: str) -> None:
    assert printable(name) == text


@given(st.binary(max_size=50))
def test_any_name_becomes_printable_utf8(name: bytes) -> None:
    text = printable(os.fsdecode(name))
    assert text.isprintable()
    text.encode("utf-8")


@given(st.text(st.characters(), max_size=20))
def test_any_text_becomes_printable_utf8(name: str) -> None:
    """JSON may hold what no file name can: halves of surrogate pairs."""
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1500, "1.5 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_000_000, "1.0 MB"),
        (102_300_000_000, "102.3 GB"),
        (999_949_999_999, "999.9 GB"),
        (999_950_000_000, "1.0 TB"),
        (5_200_000_000_000, "5.2 TB"),
        (1_234_500_000_000_000, "1,234.5 TB"),
    ],
)
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (469, "7 min 49 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (360_000, "4 days"),
    ],
)
def test_human_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (5492, "5,492 files")])
def test_count_of(number: int, text: str) -> None:
    assert pluralize(number, "file") == text


def test_now_is_utc_to_the_second() -> None:
    assert len(now_iso()) == len("2026-11-23T01:02:03+00:00")
    assert now_iso().endswith("+00:00")


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), ([*"abcd"], "a, b, c and 1 more"), (["\x1b"], r"\x1b")],
)
def test_names_are_summarized(names: list[str], text: str) -> None:
    assert summarize(names, 3) == text


# Destinations


@pytest.mark.parametrize(
    ("remote_path", "prefix"),
    [
        ("/", ""),
        ("", ""),
        ("//", ""),
        ("runs", "runs"),
        ("/runs/2026/", "runs/2026"),
        ("//runs///2026//", "runs/2026"),
        ("/Zoë/a b+c[x]", "Zoë/a b+c[x]"),
        ("/...", "..."),
        ("/.hidden", ".hidden"),
        ("/" + "x" * 512, "x" * 512),
    ],
)
def test_keys_and_urls(remote_path: str, prefix: str) -> None:
    destination = parse_destination("lab-runs", remote_path)
    stem = f"{prefix}/" if prefix else ""
    assert destination == Destination("lab-runs", prefix)
    assert destination.run_prefix("RUN") == f"{stem}RUN/"
    assert destination.url("RUN") == f"s3://lab-runs/{stem}RUN/"
    assert destination.remote_path == f"/{prefix}"
    assert parse_destination("lab-runs", destination.remote_path) == destination


def test_the_bucket_alone_is_its_root() -> None:
    assert parse_destination("lab-runs") == Destination("lab-runs", "")


@pytest.mark.parametrize("bucket", ["abc", "a.b-c_d", "Old_Bucket", "1bucket2", "x" * 255])
def test_good_buckets(bucket: str) -> None:
    assert parse_destination(bucket).bucket == bucket


@pytest.mark.parametrize(
    "bucket",
    [
        *("", "ab", "x" * 256, "lab runs", "lab-runs/", "lab/runs", "-lab", "lab-", ".lab", "lab\n", "lab-runs\n"),
        *("läb", "s3://lab-runs", "s3://lab-runs/2026", "--recursive", "lab\x1b[31m", "lab?x=1", "lab%2f"),
    ],
)
def test_bad_buckets(bucket: str) -> None:
    with pytest.raises(UsageError, match=r"--bucket|bucket name") as caught:
        parse_destination(bucket)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "remote_path",
    [
        *("/..", "/../other", "runs/./2026", "runs/..", "/a\nb", "/a\x1b[31m", "/a\0", "/bidi\u202e"),
        *("/" + "x" * 513, "/" + "ü" * 257, os.fsdecode(b"/r\xff")),
    ],
)
def test_bad_remote_paths(remote_path: str) -> None:
    with pytest.raises(UsageError, match=r"^--remote-path") as caught:
        parse_destination("lab-runs", remote_path)
    assert str(caught.value).isprintable()


def test_tags_tell_destinations_apart() -> None:
    tags = [Destination(bucket, prefix).tag for bucket in ("lab", "lab-runs") for prefix in ("", "runs", "runs/2026")]
    assert len(set(tags)) == len(tags)
    assert all(len(tag) == 8 and int(tag, 16) >= 0 for tag in tags)


# Cores

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


@pytest.mark.skipif(AFFINITY < 2, reason="one processor is the least there is")
def test_affinity_counts(tmp_path: Path) -> None:
    one = min(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {%d}); from s3sync.resources import usable_cores; print(usable_cores())"
    assert run_python(code % one) == "1\n"


# Locks

HOLD = """
import sys
from pathlib import Path
from s3sync.state import lock
with lock.hold(Path(sys.argv[1]), "RUN to s3://lab-runs/RUN/"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "locks" / "RUN.lock"


def start_holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its stdin ends."""
    argv = (sys.executable, "-c", HOLD, str(path))
    holder = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def is_free(path: Path) -> bool:
    with path.open() as stream:
        return lock.try_lock(stream.fileno())


def test_a_lock_is_held_inside_and_free_afterwards(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN") as held:
        assert not is_free(lock_path)
        assert fcntl.fcntl(held.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        with pytest.raises(BusyError), lock.hold(lock_path, "RUN"):
            pass
        assert not is_free(lock_path)
    assert is_free(lock_path)


def test_a_lock_is_free_after_an_error_inside(lock_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.hold(lock_path, "RUN"):
        raise ZeroDivisionError
    assert is_free(lock_path)


def test_who_holds_the_lock_is_said(lock_path: Path) -> None:
    with start_holder(lock_path) as holder:
        with (
            pytest.raises(BusyError) as caught,
            lock.hold(lock_path, "RUN to s3://lab-runs/RUN/ is being uploaded already"),
        ):
            pass
        holder.communicate()
    said = str(caught.value)
    assert said.startswith("RUN to s3://lab-runs/RUN/ is being uploaded already: ")
    assert f"by process {holder.pid} on {os.uname().nodename} since 2" in said
    assert caught.value.exit_code == EXIT_BUSY
    assert is_free(lock_path)


def test_a_killed_holder_leaves_no_lock(lock_path: Path) -> None:
    with start_holder(lock_path) as holder:
        holder.kill()
    assert f"process {holder.pid} " in lock_path.read_text()
    with lock.hold(lock_path, "RUN"):
        assert f"process {os.getpid()} " in lock_path.read_text()


@pytest.mark.parametrize("content", [b"", b"process 1 on elsewhere since 2020\n", b"\xff\0\x1b[31m" * 100])
def test_a_stale_file_locks_nothing(lock_path: Path, content: bytes) -> None:
    lock_path.parent.mkdir(parents=True)
    lock_path.write_bytes(content)
    with lock.hold(lock_path, "RUN"):
        assert lock_path.read_text().startswith(f"process {os.getpid()} on ")
        assert lock_path.read_text().count("\n") == 1


@pytest.mark.parametrize(("content", "holder"), [(b"", "by another process"), (b"\x1b[31m\xff", r"by \x1b[31m")])
def test_a_holder_that_did_not_sign_is_busy_too(lock_path: Path, content: bytes, holder: str) -> None:
    lock_path.parent.mkdir(parents=True)
    lock_path.write_bytes(content)
    with lock_path.open() as stream:
        assert lock.try_lock(stream.fileno())
        with pytest.raises(BusyError) as caught, lock.hold(lock_path, "RUN"):
            pass
    assert holder in str(caught.value)
    assert str(caught.value).isprintable()
    assert lock_path.read_bytes() == content


def test_a_child_keeps_the_lock_that_it_inherited(lock_path: Path) -> None:
    """As an `aws` does whose parent was killed."""
    with lock.hold(lock_path, "RUN") as held:
        child = subprocess.Popen(
            ("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(held.descriptor,)
        )
    with child:
        assert not is_free(lock_path)
        with pytest.raises(BusyError, match="or by an aws process it started"), lock.hold(lock_path, "RUN"):
            pass
        child.communicate()
    assert is_free(lock_path)


def test_a_child_that_did_not_inherit_it_keeps_nothing(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN"):
        child = subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with child:
        assert is_free(lock_path)
        child.communicate()


def test_lock_files_are_private(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN"):
        assert stat.S_IMODE(lock_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(lock_path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("obstacle", ["a link", "a folder", "a file above"])
def test_a_lock_that_cannot_be_made_is_a_clear_error(lock_path: Path, obstacle: str) -> None:
    elsewhere = lock_path.parents[2] / "elsewhere"
    elsewhere.write_text("precious")
    if obstacle == "a file above":
        lock_path.parents[1].touch()
    else:
        lock_path.parent.mkdir(parents=True)
        lock_path.symlink_to(elsewhere) if obstacle == "a link" else lock_path.mkdir()
    with pytest.raises(StateError, match=r"cannot lock .*--log_dir"), lock.hold(lock_path, "RUN"):
        pass
    assert elsewhere.read_text() == "precious"


# Files


def test_replace_makes_and_replaces_private_files(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for content in (b"old", b"", b"new" * 100_000):
        files.atomic_write(path, content)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["log.json"]


def test_replace_makes_a_public_file_private(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.touch()
    path.chmod(0o644)
    files.atomic_write(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_replace_gives_a_new_file_and_leaves_the_old_one_whole(tmp_path: Path) -> None:
    """Whoever reads the old one reads it to its end."""
    path = tmp_path / "log.json"
    path.write_bytes(b"old")
    with path.open("rb") as stream:
        files.atomic_write(path, b"new")
        assert stream.read() == b"old"


REPLACE = """
import resource, sys
from pathlib import Path
from s3sync import files
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.atomic_write(Path(sys.argv[1]), b"n" * 1500)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [("full", "File too large"), ("read-only", "Permission denied"), ("folder", "Is a directory")],
)
def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path, obstacle: str, words: str) -> None:
    path = tmp_path / "log.json"
    inner = path / "inner" if obstacle == "folder" else path
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("old")
    tmp_path.chmod(0o500 if obstacle == "read-only" else 0o700)
    try:
        assert run_unprivileged(REPLACE, path, obstacle) == f"{words}\n"
    finally:
        tmp_path.chmod(0o700)
    assert inner.read_text() == "old"
    assert os.listdir(tmp_path) == ["log.json"]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".tmp").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        files.atomic_write(tmp_path / "log.json", b"new", tmp_path / ".tmp")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("does", ["replace", "check_writable"])
def test_processes_of_two_hosts_with_the_same_id_write_a_file_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """As in containers: the other one writes all of it between this one's write and its rename."""
    path = tmp_path / "notified.json"
    write_synced = files.write_synced

    def interrupted(temporary: Path, content: bytes) -> None:
        write_synced(temporary, content)
        monkeypatch.setattr(files, "write_synced", write_synced)
        files.atomic_write(path, b"theirs")

    monkeypatch.setattr(files, "write_synced", interrupted)
    if does == "replace":
        files.atomic_write(path, b"ours")
    else:
        files.check_writable(path)
    assert path.read_bytes() == (b"ours" if does == "replace" else b"theirs")
    assert os.listdir(tmp_path) == ["notified.json"]


def test_a_temporary_file_has_a_name_that_every_file_system_takes(tmp_path: Path) -> None:
    """However long the file's own name is."""
    path = tmp_path / ("\N{SNOWMAN}" * 85)
    files.atomic_write(path, b"content")
    assert [path] == list(tmp_path.iterdir())


def test_write_all_writes_all_to_a_pipe_that_takes_little(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    with (tmp_path / "out").open("wb") as out, subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=out) as child:
        assert child.stdin is not None
        files.write_all(child.stdin.fileno(), content)
    assert (tmp_path / "out").read_bytes() == content


def test_private_folders_leave_what_is_there_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    files.make_private_folder(tmp_path / "shared" / "a" / "b")
    files.make_private_folder(tmp_path / "shared" / "a" / "b")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("shared", "shared/a", "shared/a/b")]
    assert modes == [0o755, 0o700, 0o700]


# Log lines

LOGGED = """
import logging, sys
from pathlib import Path
from s3sync import logs
logs.configure(Path(sys.argv[1]), "INFO")
logging.warning("%s", sys.argv[2])
try:
    raise ValueError(sys.argv[2])
except ValueError:
    logging.exception("failed")
logs.LogStream(logging.getLogger()).write(f"warning: {sys.argv[2]}")
"""


def test_a_message_is_one_line_without_control_characters_in_the_main_log(tmp_path: Path) -> None:
    """Nobody who names a file or a run can write lines of his own there, or colours, as in a traceback."""
    run_python(LOGGED, tmp_path, "a\n2026-01-01 INFO forged\r\x1b[31mred\x9b")
    lines = (tmp_path / "s3_upload.log").read_text().split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.partition("] ")[2] for line in lines if " WARNING [" in line] == [
        r"a\n2026-01-01 INFO forged\r\x1b[31mred\x9b"
    ] * 2
    assert any(line.startswith("Traceback") for line in lines)


def test_an_os_error_is_explained_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(StateError, match=r"cannot read .*/absent: No such file or directory \(make it\)") as caught,
        explained("read", tmp_path / "absent", "make it", id="state.absent"),
    ):
        (tmp_path / "absent").read_bytes()
    assert caught.value.id == "state.absent"


def test_small_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_limited(path, 5) == b"12345"
    assert files.read_limited(path, 3) == b"1234", "one more, so that the caller sees that it is larger"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="it is not a regular file"):
            files.read_limited(other, 5)


def test_json_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    files.write_json(path, {"version": 1, "names": ["a", "\u00e9"]})
    assert files.read_json(path) == {"version": 1, "names": ["a", "\u00e9"]}
    assert path.read_bytes().isascii()
    for content in (b"", b"{", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"line|deeply"):
            files.read_json(path)


# Signals


def test_only_the_first_request_counts() -> None:
    stop = StopRequest()
    asked: list[str] = []
    stop.on_request(lambda: asked.append("a"))
    stop.on_request(lambda: asked.append("b"))
    stop.raise_if_requested()
    assert (stop.is_requested, stop.signum, stop.wait(0)) == (False, None, False)
    stop.request(signal.SIGTERM)
    stop.request(signal.SIGINT)
    assert (stop.is_requested, stop.signum, stop.wait(60)) == (True, signal.SIGTERM, True)
    assert asked == ["a", "b"]


def test_what_is_over_is_not_called_when_somebody_asks_for_the_end() -> None:
    stop = StopRequest()
    asked: list[str] = []

    def action() -> None:
        asked.append("called")

    stop.on_request(action)
    stop.remove_action(action)
    stop.remove_action(action)
    stop.request(signal.SIGTERM)
    assert asked == []


def test_polling_ends_with_the_request() -> None:
    stop = StopRequest()
    turns = 0
    for _ in stop.poll(every=0.0):
        turns += 1
        if turns == 3:
            stop.request(signal.SIGTERM)
    assert turns == 3
    assert list(stop.poll(every=0.0)) == [], "it was requested before"


def test_polling_ends_after_its_time_with_one_last_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    clock = [0.0]
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        clock[0] += seconds
        return False

    monkeypatch.setattr("s3sync.signals.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(stop, "wait", wait)
    assert len(list(stop.poll(every=2.0, timeout=5.0))) == 4
    assert pauses == [2.0, 2.0, 1.0]
    assert len(list(stop.poll(every=2.0, timeout=0.0))) == 1


def test_a_lost_lease_is_raised_again_with_its_id() -> None:
    stop = StopRequest()
    stop.request_for_lost_lease(LeaseLostError("lost to host-2", id="lock.lost"))
    assert (stop.is_requested, stop.has_lost_lease, stop.signum) == (True, True, None)
    with pytest.raises(LeaseLostError, match="lost to host-2") as caught:
        stop.raise_if_requested()
    assert (caught.value.id, caught.value.exit_code) == ("lock.lost", EXIT_BUSY)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_check_raises_with_the_shells_code(signum: signal.Signals, code: int) -> None:
    stop = StopRequest()
    stop.request(signum)
    with pytest.raises(InterruptedBySignal, match=f"interrupted by {signum.name}") as caught:
        stop.raise_if_requested()
    assert caught.value.exit_code == code


SIGNALLED = """
import os, signal, sys, threading
from s3sync.signals import SIGNALS, StopRequest, stop_on_signals
ignored = signal.Signals[sys.argv[1]] if sys.argv[1] else None
if ignored:
    signal.signal(ignored, signal.SIG_IGN)
before = [signal.getsignal(s) for s in SIGNALS]
stop, threads = StopRequest(), []
stop.on_request(lambda: threads.append(threading.current_thread().name))
with stop_on_signals(stop):
    for name in sys.argv[2:]:
        os.kill(os.getpid(), signal.Signals[name])
    assert stop.wait(30)
    assert signal.SIG_IGN not in map(signal.getsignal, SIGNALS)
assert [signal.getsignal(s) for s in SIGNALS] == before
assert signal.set_wakeup_fd(-1) == -1
assert [t.name for t in threading.enumerate()] == ["MainThread"]
print(signal.Signals(stop.signum).name, threads)
"""


@pytest.mark.parametrize(
    ("ignored", "sent", "heard"),
    [
        ("", ["SIGINT"], "SIGINT"),
        ("", ["SIGTERM"], "SIGTERM"),
        ("", ["SIGHUP"], "SIGHUP"),
        ("", ["SIGTERM", "SIGINT", "SIGHUP"], "SIGTERM"),
        ("SIGINT", ["SIGINT", "SIGINT", "SIGTERM"], "SIGTERM"),
        ("SIGHUP", ["SIGHUP", "SIGINT"], "SIGINT"),
    ],
)
def test_signals_ask_for_the_end_unless_they_were_ignored(ignored: str, sent: list[str], heard: str) -> None:
    assert run_python(SIGNALLED, ignored, *sent) == f"{heard} ['signals']\n"


CHILD = """
import signal, subprocess, sys
from s3sync.signals import StopRequest, stop_on_signals
signal.signal(signal.SIGINT, signal.SIG_IGN)
code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
with stop_on_signals(StopRequest()):
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_children_can_be_interrupted_though_we_cannot() -> None:
    assert run_python(CHILD) == "True\n"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50MB/s", 50_000_000),
        ("800 kB/s", 800_000),
        ("800KB/s", 800_000),
        ("0.5 GB/s", 500_000_000),
        ("1.25MB/s", 1_250_000),
        ("100B/s", 100),
        (" 1B/s ", 1),
    ],
)
def test_rates_as_people_write_them(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "50", "50MB", "50Mb/s", "MB/s", "-1MB/s", "0MB/s", "1e9B/s", "50 TB/s", "٣MB/s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="no rate in bytes per second"):
        parse_rate(text)
