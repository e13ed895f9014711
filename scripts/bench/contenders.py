"""Define who competes: s3sync, the AWS CLI in several ways, and other tools, each as the processes to start."""

from __future__ import annotations

import heapq
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync.aws.argv import s3_cp_argv
from s3sync.aws.etag import DEFAULT_MULTIPART, Multipart
from s3sync.aws.settings import CliSettings, child_environment, write_config
from s3sync.runs.local_files import LocalFile
from s3sync.transfer.batches import cost_of
from scripts.bench.measure import Command
from scripts.bench.workloads import Workload

ROOT = Path(__file__).resolve().parents[2]
_PREDECESSOR = Path(__file__).with_name("predecessor.py")
UNSET = 0  # threads: this program decides
USUAL_THREADS = 4  # of the CLI, where nobody decides
_RCLONE_TRANSFERS = 32  # at once; its default of 4 is meant for disks


class Pair(NamedTuple):
    """How parallel this program should be: `aws` processes at once, and requests at once in each (or UNSET)."""

    cores: int
    threads: int

    def __str__(self) -> str:
        return f"{self.cores}x{self.threads}"


class Variation(NamedTuple):
    """What differs from the default: constants by `package.module.name`, options, the parts of large files."""

    constants: tuple[tuple[str, float], ...] = ()
    options: tuple[str, ...] = ()
    multipart: Multipart = DEFAULT_MULTIPART


class Setting(NamedTuple):
    """One upload that is to be made. `prefix` has no slash at either end; `work` is an empty folder for it.

    `other_aws` is a second AWS CLI, for the contenders that use it instead of `aws`.
    """

    workload: Workload
    bucket: str
    prefix: str
    environ: Mapping[str, str]
    work: Path
    aws: str
    pair: Pair
    variation: Variation = Variation()
    other_aws: str = ""

    @property
    def url(self) -> str:
        """Return the URL of the run's files, with a slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}/{self.workload.folder.name}/"


class Contender(NamedTuple):
    """`prepare` makes ready what the clock does not count, and gives the processes that it does.

    `program` is what has to be installed beside the AWS CLI, `module` which one of Python; `paired` is whether cores
    and threads mean something to it, `other` whether it uses a second AWS CLI.
    """

    about: str
    prepare: Callable[[Setting], list[Command]]
    program: str = ""
    module: str = ""
    paired: bool = False
    other: bool = False


def _s3sync(*options: str) -> Callable[[Setting], list[Command]]:
    def prepare(setting: Setting) -> list[Command]:
        argv = [sys.executable, *_program_argv(setting.variation), "upload", "--skip_check"]
        argv += [f"--local_path={setting.workload.folder}"]
        argv += [f"--bucket={setting.bucket}", f"--remote_path={setting.prefix}"]
        argv += [f"--cores={setting.pair.cores}"]
        argv += [f"--threads={setting.pair.threads}"] if setting.pair.threads else []
        argv += [f"--log_dir={setting.work / 'log'}", f"--aws_command={setting.aws}"]
        argv += options
        argv += setting.variation.options  # last, so that they stand
        return [Command(tuple(argv), {**setting.environ, "PYTHONPATH": str(ROOT)})]

    return prepare


def _program_argv(variation: Variation) -> list[str]:
    """Return the argv that runs this program with some of its constants replaced."""
    if not variation.constants:
        return ["-m", "s3sync"]
    modules = sorted({name.rpartition(".")[0] for name, _ in variation.constants})
    lines = ["import sys", *(f"import s3sync.{module}" for module in ("commands.main", *modules))]
    lines += [f"s3sync.{name}  # has to be there\ns3sync.{name} = {value!r}" for name, value in variation.constants]
    return ["-c", "\n".join([*lines, "sys.exit(s3sync.commands.main.main())"])]


def _bare(setting: Setting, pair: Pair | None = None) -> list[Command]:
    """Return one `aws` process per core, with the settings of this program, each for a prepared part of the files."""
    cores, threads = pair or setting.pair
    config = setting.work / "aws-config"
    write_config(
        setting.environ, CliSettings(threads or USUAL_THREADS, setting.variation.multipart, client="default"), config
    )
    environ = child_environment(setting.environ, config)
    folders = []
    for number, files in enumerate(split(setting.workload.files, cores)):
        folders.append(setting.work / f"part-{number}")
        link_all(folders[-1], setting.workload.folder, files)
    return [Command((setting.aws, *s3_cp_argv(str(folder), setting.url)), environ) for folder in folders]


def _crt(setting: Setting) -> list[Command]:
    """Return one process of version 2 with its client in C, which accepts the endpoint only as an option."""
    config = setting.work / "aws-config"
    config.write_text("[default]\ns3 =\n  preferred_transfer_client = crt\n", encoding="utf-8")
    endpoint = setting.environ.get("AWS_ENDPOINT_URL")
    argv = [setting.aws, *(["--endpoint-url", endpoint] if endpoint else []), "s3", "cp", "--recursive"]
    argv += ["--no-progress", str(setting.workload.folder), setting.url]
    return [Command(tuple(argv), {**setting.environ, "AWS_CONFIG_FILE": str(config)})]


def _with_other(prepare: Callable[[Setting], list[Command]]) -> Callable[[Setting], list[Command]]:
    """Use the second AWS CLI instead of the first."""
    return lambda setting: prepare(setting._replace(aws=setting.other_aws))


def _predecessor(threads: int) -> Callable[[Setting], list[Command]]:
    def prepare(setting: Setting) -> list[Command]:
        argv = [sys.executable, str(_PREDECESSOR), str(setting.workload.folder), f"--bucket={setting.bucket}"]
        argv += [f"--prefix={setting.prefix}/{setting.workload.folder.name}"]
        argv += [f"--cores={setting.pair.cores}", f"--threads={threads}"]
        return [Command(tuple(argv), setting.environ)]

    return prepare


def _aws(verb: str, *more: str) -> Callable[[Setting], list[Command]]:
    """Return one process with the settings of the user."""

    def prepare(setting: Setting) -> list[Command]:
        argv = (setting.aws, "s3", verb, str(setting.workload.folder), setting.url, "--no-progress", *more)
        return [Command(argv, setting.environ)]

    return prepare


def _s5cmd(setting: Setting) -> list[Command]:
    endpoint = setting.environ.get("AWS_ENDPOINT_URL")
    argv = [_program("s5cmd"), *(["--endpoint-url", endpoint] if endpoint else []), "--log", "error"]
    return [Command((*argv, "cp", f"{setting.workload.folder}/", setting.url), setting.environ)]


def _rclone(setting: Setting) -> list[Command]:
    endpoint = setting.environ.get("AWS_ENDPOINT_URL")
    remote = {"TYPE": "s3", "PROVIDER": "Other" if endpoint else "AWS", "ENV_AUTH": "true", "LIST_VERSION": "2"}
    if endpoint:
        remote |= {"ENDPOINT": endpoint, "FORCE_PATH_STYLE": "true"}
    environ = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in remote.items()}
    argv = [_program("rclone"), "--config", os.devnull, "copy", str(setting.workload.folder)]
    argv += [f"bench:{setting.url.removeprefix('s3://')}", "--fast-list", "--s3-no-check-bucket"]
    argv += [f"--transfers={_RCLONE_TRANSFERS}", f"--checkers={_RCLONE_TRANSFERS}"]
    return [Command(tuple(argv), {**setting.environ, **environ})]


_FOUR = Pair(4, 10)  # what serves `aws` best on 2 cores where S3 is far away
_plain = _aws("cp", "--recursive")
CONTENDERS = {
    "bare": Contender("`aws s3 cp --recursive`, a process a core, on a ready split", _bare, paired=True),
    "bare-4": Contender("the same with 4 processes of 10 threads", lambda setting: _bare(setting, _FOUR)),
    "s3sync": Contender("s3sync upload", _s3sync(), paired=True),
    "s3sync-etag": Contender("s3sync upload --verify etag", _s3sync("--verify=etag"), paired=True),
    "s3sync-size": Contender("s3sync upload --verify size", _s3sync("--verify=size"), paired=True),
    "s3sync-cli": Contender(
        "s3sync upload --transfer-client default", _s3sync("--transfer-client=default"), paired=True
    ),
    "predecessor": Contender("boto3 as eastgenomics/s3_upload, 4 threads a core", _predecessor(4), module="boto3"),
    "predecessor-8": Contender("the same with 8 threads", _predecessor(8), module="boto3"),
    "plain": Contender("one `aws s3 cp --recursive`", _plain),
    "sync": Contender("one `aws s3 sync`", _aws("sync")),
    "bare-other": Contender("bare, with --other-aws", _with_other(_bare), paired=True, other=True),
    "s3sync-other": Contender("s3sync, with --other-aws", _with_other(_s3sync()), paired=True, other=True),
    "plain-other": Contender("plain, with --other-aws", _with_other(_plain), other=True),
    "crt-other": Contender("the same with its client in C (version 2)", _with_other(_crt), other=True),
    "s5cmd": Contender("s5cmd cp", _s5cmd, "s5cmd"),
    "rclone": Contender(f"rclone copy --transfers {_RCLONE_TRANSFERS} --fast-list", _rclone, "rclone"),
}
USUAL = ("bare", "s3sync", "s3sync-cli", "predecessor", "predecessor-8", "plain", "s5cmd", "rclone")
FIRST = "bare"  # what all are compared with


def is_installed(name: str) -> bool:
    """Return whether the program or module of a contender is installed."""
    one = CONTENDERS[name]
    if one.module:
        return importlib.util.find_spec(one.module) is not None
    return not one.program or bool(_found(one.program))


def split(files: Sequence[LocalFile], processes: int) -> list[list[LocalFile]]:
    """Cut files into one group per process, of about the same cost; no group is empty."""
    heap: list[tuple[float, int, list[LocalFile]]] = [(0.0, number, []) for number in range(processes)]
    for file in sorted(files, key=lambda file: (-file.size, file.path)):
        cost, number, group = heap[0]
        group.append(file)
        heapq.heapreplace(heap, (cost + cost_of([file]), number, group))
    return [group for _, _, group in sorted(heap, key=lambda entry: entry[1]) if group]


def link_all(folder: Path, run: Path, files: Sequence[LocalFile]) -> None:
    """Make a folder of links that mirrors these files of the run."""
    for file in files:
        link = folder / file.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(run / file.path)


def _found(program: str) -> str | None:
    """Return the path of a program beside this Python, or else on PATH."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(program)


def _program(name: str) -> str:
    found = _found(name)
    assert found, "is_installed() was asked first"
    return found
