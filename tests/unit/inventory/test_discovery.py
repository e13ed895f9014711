"""Which folders are runs, and that none disappears: every error but "not there" is said."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3sync import mounts
from s3sync.aws.destination import Destination
from s3sync.cleanup import candidates as cleanup_candidates
from s3sync.commands.overview import load_overview
from s3sync.commands.setup_checks import check_directories
from s3sync.config import Config, load_config
from s3sync.errors import RunError
from s3sync.inventory import directories, discovery, foreign, statuses
from s3sync.mounts import Mount
from s3sync.runs.run_folder import Run, RunInfo, open_run
from s3sync.slurm.work_folder import WorkFolder
from s3sync.state.store import StateStore
from scripts.simulate_run import make_run
from tests.helpers.errors import raises_error

RUN = "250101_M01234_0001_AAAAA"
NFS = Mount(point="/mnt/nas", kind="nfs4", source="nas:/runs", root="/")
DISK = Mount(point="/", kind="ext4", source="/dev/sda1", root="/")


def config_of(tmp_path: Path, *watched: Path) -> Config:
    path = tmp_path / "config.json"
    entry = {"monitored_directories": [str(folder) for folder in watched], "bucket": "lab-runs", "remote_path": "/"}
    path.write_text(json.dumps({"log_dir": str(tmp_path / "log"), "monitor": [entry]}))
    path.chmod(0o600)
    return load_config(path, {})


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    folder = tmp_path / "sequencer"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path, watched: Path) -> Config:
    return config_of(tmp_path, watched)


def tiny_run(folder: Path, name: str = RUN) -> Path:
    return make_run(folder, "miseq", cycles=(1, 1, 1), tiles=2, scale=0.00001, run_id=name)


def store_of(config: Config, run: Path) -> StateStore:
    return StateStore(config.log_dir, Run(path=run, run_id=run.name, info=RunInfo()), Destination("lab-runs", ""))


def statuses_of(config: Config) -> list[tuple[str, str, str]]:
    found = discovery.discover(config)
    assert found.problems == []
    return [(run.run.run_id, run.state, run.reason) for run in statuses.run_statuses(config, found.distinct)]


def notes(config: Config) -> list[str]:
    found = discovery.discover(config)
    assert found.problems == []
    return [f"{note.key} {note.text}" for note in found.notes]


def failing_with(monkeypatch: pytest.MonkeyPatch, number: int, path: Path, function: str = "stat") -> None:
    """Let a function of `os` fail for one path."""
    real: Callable[..., Any] = getattr(os, function)

    def fail(given: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(given, str | bytes | os.PathLike) and os.fspath(given) == str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(given, *arguments, **options)

    monkeypatch.setattr(os, function, fail)


ERRORS = (
    errno.ELOOP,
    errno.ESTALE,
    errno.EIO,
    errno.ENOTCONN,
    errno.EACCES,
    errno.EPERM,
    errno.EHOSTDOWN,
    errno.ETIMEDOUT,
    errno.ENOMEM,
    errno.EUCLEAN,
)


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_a_run_whose_run_info_cannot_be_accessed_is_unreadable(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = tiny_run(watched)
    failing_with(monkeypatch, number, run / "RunInfo.xml")

    advice = "give this user access to it" if number in (errno.EACCES, errno.EPERM) else "check its file system"
    reason = f"cannot read {run}/RunInfo.xml: {os.strerror(number)} ({advice})"
    assert statuses_of(config) == [(RUN, "unreadable", reason)]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR], ids=errno.errorcode.get)
def test_a_folder_without_run_info_is_not_a_run(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing_with(monkeypatch, number, tiny_run(watched) / "RunInfo.xml")

    assert statuses_of(config) == []


def test_an_uploaded_run_that_cannot_be_read_is_not_shown_as_done(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(watched)
    log = store_of(config, run).log_path
    log.parent.mkdir(parents=True)
    facts = {"run_id": RUN, "run_path": str(run), "completed": True, "bucket": "lab-runs", "remote_path": ""}
    log.write_text(json.dumps({**facts, "total_local_files": 1, "total_uploaded_files": 1, "uploaded_files": {}}))
    assert [state for _, state, _ in statuses_of(config)] == ["uploaded"]
    failing_with(monkeypatch, errno.EIO, run / "RunInfo.xml")

    assert [state for _, state, _ in statuses_of(config)] == ["unreadable"]


def test_links_that_lead_nowhere_are_unreadable_runs(config: Config, watched: Path) -> None:
    loop, gone = watched / "loop", watched / "gone"
    for folder in (loop, gone):
        folder.mkdir()
    (loop / "RunInfo.xml").symlink_to("RunInfo.xml")
    (gone / "RunInfo.xml").symlink_to("nowhere")

    assert statuses_of(config) == [
        ("gone", "unreadable", f"{gone}/RunInfo.xml is a link to a missing file (restore that file)"),
        ("loop", "unreadable", f"cannot read {loop}/RunInfo.xml: {os.strerror(errno.ELOOP)} (check its file system)"),
    ]


@pytest.mark.parametrize("what", ["log", "journal", "lock", "lease", "Slurm work folder", "folder of the logs"])
def test_what_is_remembered_and_cannot_be_read_is_unreadable(config: Config, watched: Path, what: str) -> None:
    store = store_of(config, tiny_run(watched))
    place = {
        "log": store.log_path,
        "journal": store.journal_path,
        "lock": store.lock_path,
        "lease": config.log_dir / "leases" / store.lock_path.stem,
        "Slurm work folder": WorkFolder.of(config.log_dir, store).path,
        "folder of the logs": store.log_path.parent,
    }[what]
    assert [state for _, state, _ in statuses_of(config)] == ["new"]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(place.name)

    [(_, state, reason)] = statuses_of(config)

    assert state == "unreadable"
    assert str(place) in reason
    assert os.strerror(errno.ELOOP) in reason
    assert "corrupt" not in reason


def test_a_directory_that_breaks_off_is_reported_and_what_was_found_stays(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(watched)

    real = os.scandir

    @contextlib.contextmanager
    def scandir(path: str) -> Iterator[Iterator[Any]]:
        with real(path) as entries:
            yield itertools.chain(itertools.islice(entries, 1), breaks_off() if path == str(watched) else entries)

    def breaks_off() -> Iterator[Any]:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        yield

    monkeypatch.setattr(os, "scandir", scandir)

    found = discovery.discover(config)

    assert [candidate.run.path for candidate in found.candidates] == [run]
    assert [problem.id for problem in found.problems] == ["monitor.directory-unreadable"]
    assert f"cannot read {watched}: {os.strerror(errno.ESTALE)} (" in found.problems[0].text


def test_upload_of_a_folder_that_cannot_be_read_does_not_call_it_missing(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")

    with raises_error(RunError, "run.unreadable", str(loop), os.strerror(errno.ELOOP)):
        open_run(loop)


SYSTEM_FOLDERS = (
    *("lost+found", ".snapshot", ".snapshots", ".zfs", "@eaDir", "#recycle", "#snapshot", ".Trash-1000"),
    *("$RECYCLE.BIN", "System Volume Information", ".AppleDouble", ".TemporaryItems", ".DS_Store", "._RUN"),
    *("~snapshot", ".@__thumb", "@Recycle", ".stfolder", ".nfs000000012", "@GMT-2025.01.01-00.00.00", "@tmp"),
    *("Network Trash Folder", "RECYCLER", ".Spotlight-V100", ".fseventsd", ".rsync-partial", "LOST+FOUND"),
    *("@SynoFinder-log", "@database", "@sharesnap", "#archive", "$WinREAgent", "~trash", "FOUND.001", "found.017"),
)


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_file_systems_and_desktops_are_not_runs_even_unreadable(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (watched / name).mkdir()
    failing_with(monkeypatch, errno.EACCES, watched / name / "RunInfo.xml")

    assert statuses_of(config) == []
    assert notes(config) == []


@pytest.mark.parametrize("first", [".", "@", "~"])
def test_a_run_with_a_hidden_or_reserved_name_is_named(config: Config, watched: Path, first: str) -> None:
    run = tiny_run(watched, f"{first}250101_M01234_0001_AAAAA")

    assert notes(config) == [f"{run} has a hidden or reserved name, so it is not recognized as a run (rename it)"]
    assert statuses_of(config) == []


@pytest.mark.parametrize(
    ("vendor", "names"),
    [
        ("an Element AVITI", ("RunParameters.json", "RunManifest.json", "RunUploaded.json")),
        ("an Element AVITI", ("AvitiRunStats.json",)),
        ("an Oxford Nanopore", ("final_summary_FAX1_ab12_cd34.txt",)),
        ("an Oxford Nanopore", ("sequencing_summary_FAX1_ab12_cd34.txt", "pod5_pass/")),
        ("a PacBio", ("1_A01/",)),
        ("a PacBio", ("m64012_250101.subreadset.xml",)),
        ("an MGI or Complete Genomics", ("BioInfo.csv",)),
        ("an MGI or Complete Genomics", ("L01/BarcodeStat.txt",)),
        ("an Ion Torrent", ("explog_final.txt", "acq_0000.dat")),
        ("an Ultima Genomics", ("200101_LibraryInfo.xml",)),
    ],
)
def test_a_run_of_another_vendor_is_named(config: Config, watched: Path, vendor: str, names: tuple[str, ...]) -> None:
    folder = watched / "20250101_RUN"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()

    [note] = notes(config)

    assert note.startswith(f"{folder} looks like {vendor} run: only Illumina runs are uploaded automatically")
    assert "--skip-check" in note
    assert statuses_of(config) == []


def test_an_illumina_run_without_run_info_is_named_once_nothing_arrives_any_more(tmp_path: Path) -> None:
    (tmp_path / "RTAComplete.txt").touch()
    changed = tmp_path.stat().st_mtime

    assert foreign.note_on(str(tmp_path), changed + 60) is None
    note = foreign.note_on(str(tmp_path), changed + 4000)
    assert note is not None
    assert note.id == "run.run-info-missing"


def test_any_other_folder_is_nothing_special(config: Config, watched: Path) -> None:
    (watched / "scripts").mkdir()
    (watched / "scripts" / "README.txt").touch()
    (watched / "notes.txt").touch()

    assert (statuses_of(config), notes(config)) == ([], [])


def test_a_run_folder_as_monitored_directory_is_a_problem(tmp_path: Path, watched: Path) -> None:
    run = tiny_run(watched)
    text_file = tmp_path / "file"
    text_file.touch()

    def problems(folder: Path) -> list[tuple[str, str]]:
        return [(problem.id, problem.text) for problem in discovery.discover(config_of(tmp_path, folder)).problems]

    assert problems(run) == [("monitor.directory-is-run", f"{run} is itself a run folder (give the folder above it)")]
    in_run = f"{run}/Data is inside the run folder {run} (give {watched})"
    assert problems(run / "Data") == [("monitor.directory-in-run", in_run)]
    assert [id_ for id_, _ in problems(text_file)] == ["monitor.directory-not-a-folder"]
    assert [id_ for id_, _ in problems(watched / "*")] == ["monitor.directory-is-pattern"]
    assert [id_ for id_, _ in problems(watched / "none")] == ["monitor.directory-missing"]
    assert problems(watched) == []


def test_runs_one_folder_deeper_are_hinted_at(tmp_path: Path) -> None:
    above, folder = tmp_path / "above", tmp_path / "above" / "sequencer"
    folder.mkdir(parents=True)
    tiny_run(folder)

    assert notes(config_of(tmp_path, above)) == [
        f"{above} has no runs, but its folder {folder} has (give that one in monitored_directories)"
    ]


class Mounted:
    """A mount table that tests change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount: Mount | None = NFS
        monkeypatch.setattr(discovery, "mount_of", lambda _path: self.mount)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Mounted:
    return Mounted(monkeypatch)


def scan(config: Config) -> list[str]:
    found = discovery.discover(config)
    discovery.remember(found, config.log_dir)
    return [problem.text for problem in found.problems]


def test_an_empty_mount_point_is_a_problem_until_the_runs_are_back(
    config: Config, watched: Path, mounted: Mounted
) -> None:
    run = tiny_run(watched)
    assert scan(config) == []
    hidden = run.rename(watched.with_name("hidden"))
    mounted.mount = DISK

    first, second = scan(config), scan(config)
    mounted.mount = NFS
    hidden.rename(run)

    assert first == second
    file = directories.memory_file(config.log_dir, str(watched))
    expected = (
        f"{watched} had 1 run on nfs4 nas:/runs at /mnt/nas, and now has none, on ext4 /dev/sda1 at /:"
        f" is its file system not mounted? (mount it; if this is intended, remove {file})"
    )
    assert first == [expected]
    assert scan(config) == []


def test_an_empty_directory_is_confirmed_by_removing_its_file(config: Config, watched: Path, mounted: Mounted) -> None:
    run = tiny_run(watched)
    scan(config)
    run.rename(watched.with_name("hidden"))
    mounted.mount = DISK
    assert len(scan(config)) == 1

    directories.memory_file(config.log_dir, str(watched)).unlink()

    assert scan(config) == []


def test_other_runs_below_an_empty_mount_point_do_not_hide_it(config: Config, watched: Path, mounted: Mounted) -> None:
    run = tiny_run(watched)
    scan(config)
    run.rename(watched.with_name("hidden"))
    tiny_run(watched, "250102_M01234_0002_BBBBB")
    mounted.mount = DISK

    [text] = scan(config)

    assert "and now has 1 other run, on ext4" in text
    assert [name for name, _, _ in [(c.run.run_id, 0, 0) for c in discovery.discover(config).candidates]] == [
        "250102_M01234_0002_BBBBB"
    ]


def test_another_folder_on_the_same_file_system_is_noticed(config: Config, watched: Path, mounted: Mounted) -> None:
    """As with a file server that has not mounted its own disk: clients see the same server and export."""
    tiny_run(watched)
    scan(config)
    watched.rename(watched.with_name("hidden"))
    watched.mkdir()

    [text] = scan(config)

    assert "and is another folder than before: is its file system not mounted?" in text


def test_a_directory_whose_runs_were_all_cleaned_up_is_normal(config: Config, watched: Path, mounted: Mounted) -> None:
    run = tiny_run(watched)
    scan(config)
    run.rename(watched.with_name("deleted"))

    assert scan(config) == []
    mounted.mount = DISK
    assert scan(config) == []


def test_runs_that_were_moved_to_another_file_system_are_not_problems(
    config: Config, watched: Path, mounted: Mounted
) -> None:
    tiny_run(watched)
    scan(config)
    mounted.mount = DISK

    assert scan(config) == []


def test_what_is_known_of_a_directory_and_cannot_be_read_is_a_problem(
    config: Config, watched: Path, mounted: Mounted
) -> None:
    file = directories.memory_file(config.log_dir, str(watched))
    file.parent.mkdir(parents=True)
    file.symlink_to(file.name)

    assert os.strerror(errno.ELOOP) in scan(config)[0]
    file.unlink()
    file.write_text("{}")
    assert scan(config) == []


def test_an_unchanged_directory_is_not_written_again(config: Config, watched: Path, mounted: Mounted) -> None:
    tiny_run(watched)
    scan(config)
    file = directories.memory_file(config.log_dir, str(watched))
    before = file.stat().st_ino

    scan(config)

    assert file.stat().st_ino == before


def test_the_mount_table_as_the_kernel_writes_it(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/nas rw shared:2 - autofs systemd-1 rw,fd=30\n"
        "31 30 0:41 / /mnt/nas rw shared:3 master:4 - nfs4 nas:/runs rw\n"
        "32 22 0:42 /a /mnt/my\\040disk rw - cifs //nas/lab rw\n"
        "nonsense\n"
    )

    def found(path: str) -> tuple[str, ...]:
        mount = mounts.mount_of(path, table)
        assert mount
        return mount.point, mount.kind, mount.source, mount.root

    assert found("/mnt/nas/runs") == ("/mnt/nas", "nfs4", "nas:/runs", "/")
    assert found("/mnt/nasty") == ("/", "ext4", "/dev/sda1", "/")
    assert found("/mnt/my disk") == ("/mnt/my disk", "cifs", "//nas/lab", "/a")
    assert mounts.mount_of("/", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("change", "may_be"),
    [
        ({}, True),
        ({"source": "/dev/sdc1"}, True),  # renamed by a boot
        ({"source": "nas:/runs"}, False),
        ({"point": "/"}, False),  # not mounted
        ({"kind": "ext4"}, False),
        ({"root": "/b"}, False),
    ],
)
def test_a_file_system_that_a_boot_may_have_renamed(change: dict[str, str], may_be: bool) -> None:
    disk = Mount(point="/data", kind="xfs", source="/dev/sdb1", root="/")
    assert replace(disk, **change).may_be(disk) == disk.may_be(replace(disk, **change)) == may_be


def test_runs_are_named_by_name_or_by_path(
    config: Config, watched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tiny_run(watched)
    (tmp_path / "link").symlink_to(watched)
    monkeypatch.chdir(watched)
    candidates = discovery.discover(config).candidates

    for given in (RUN, f"{RUN}/", str(run), f"{run}/", f"./{RUN}", f"{tmp_path}/link/{RUN}", "../sequencer/" + RUN):
        assert discovery.resolve_names([given], candidates) == [RUN], given
    for given in (f"{RUN}/Analysis/1", f"{run}/Analysis/1/"):
        assert discovery.resolve_names([given], candidates) == [f"{RUN}/Analysis/1"], given
    assert discovery.resolve_names(["nobody", "/elsewhere/nobody/"], candidates) == ["nobody", "/elsewhere/nobody"]


def test_status_and_cleanup_take_the_path_of_a_run(config: Config, watched: Path) -> None:
    run = tiny_run(watched)

    assert [row.run.run.path for row in load_overview(config, [f"{run}/"]).rows] == [run]
    assert load_overview(config, [f"{run}/", "nobody"]).unknown == ["nobody"]
    planned = cleanup_candidates.plan_cleanup(config, [f"{run}/"], 0)
    assert ([candidate.folder for candidate in planned.candidates], planned.unknown) == ([run], ())


def test_check_says_what_a_scan_would_say(config: Config, watched: Path) -> None:
    (watched / "lost+found").mkdir()
    loop = watched / "loop"
    loop.mkdir()
    (loop / "RunInfo.xml").symlink_to("RunInfo.xml")

    found = [(finding.ok, finding.what) for finding in check_directories(config)]

    assert found == [(True, "directory"), (False, "run")]
    assert [state for _, state, _ in statuses_of(config)] == ["unreadable"]


def test_an_unreadable_log_of_a_run_that_is_gone_is_a_problem(config: Config, watched: Path) -> None:
    log = config.log_dir / "uploads" / f"{RUN}.upload.log.json"
    log.parent.mkdir(parents=True)
    log.symlink_to(log.name)

    (problem,) = statuses.take_inventory(config).problems

    assert problem.id == "state.log-unreadable"
    assert f" {log}: {os.strerror(errno.ELOOP)} " in problem.text
    assert not load_overview(config).verdict.ok
