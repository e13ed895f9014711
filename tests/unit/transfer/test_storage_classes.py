"""Which storage class each file gets, and that no batch mixes two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.aws.destination import Destination, Storage
from s3sync.aws.objects import RemoteObject
from s3sync.patterns import Pattern, SlowPatternError
from s3sync.runs import LocalFile
from s3sync.slurm import job_spec
from s3sync.slurm.client import SlurmOptions
from s3sync.transfer.batches import BatchQueue, into_batches
from s3sync.transfer.request import FileTotals, UploadRequest
from s3sync.transfer.request.storage_classes import ClassChoice, ClassRule, explain_small
from s3sync.transfer.upload.handover import Handover
from s3sync.transfer.upload.inspection import inspect_run
from tests.helpers.errors import raises_error

MB = 1_000_000
BASE_CALLS = ClassRule(Pattern(r"\.cbcl$"), "DEEP_ARCHIVE")
ALL = ClassRule(Pattern("."), "GLACIER")


def choice(*rules: ClassRule, default: str = "") -> ClassChoice:
    return ClassChoice("RUN", rules, default)


def file(path: str, size: int = 1) -> LocalFile:
    return LocalFile(path, size, 1)


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ((), "Data/1.cbcl", "STANDARD_IA"),
        ((BASE_CALLS,), "Data/1.cbcl", "DEEP_ARCHIVE"),
        ((BASE_CALLS,), "Data/1.cbcl.txt", "STANDARD_IA"),
        ((BASE_CALLS, ALL), "Data/1.cbcl", "DEEP_ARCHIVE"),  # the first that matches
        ((ALL, BASE_CALLS), "Data/1.cbcl", "GLACIER"),
        ((ClassRule(Pattern("^RUN/Data/"), "GLACIER"),), "Data/1.cbcl", "GLACIER"),
        ((ClassRule(Pattern("^Data/"), "GLACIER"),), "Data/1.cbcl", "STANDARD_IA"),  # the run's name comes first
        ((ALL,), "CopyComplete.txt", "STANDARD"),
        ((ALL,), "Data/Secondary_Analysis_Complete.txt", "STANDARD"),
        ((ALL,), "s3sync.complete.json", "STANDARD"),
        ((BASE_CALLS,), "CopyComplete.txt", "STANDARD_IA"),
        ((ClassRule(Pattern("Complete"), "GLACIER_IR"), ALL), "CopyComplete.txt", "GLACIER_IR"),
    ],
)
def test_the_first_pattern_that_is_found_counts_and_markers_are_never_archived(
    rules: tuple[ClassRule, ...], path: str, expected: str
) -> None:
    assert choice(*rules, default="STANDARD_IA").class_of(path) == expected


def test_the_class_of_the_rest_applies_to_markers_as_before_unless_there_are_patterns() -> None:
    assert choice(default="DEEP_ARCHIVE").class_of("CopyComplete.txt") == "DEEP_ARCHIVE"
    warm = choice(ClassRule(Pattern("InterOp/"), "STANDARD"), default="DEEP_ARCHIVE")
    assert [warm.class_of(path) for path in ("CopyComplete.txt", "Data/1.cbcl")] == ["STANDARD", "DEEP_ARCHIVE"]


class _Slow(Pattern):
    def search(self, text: str, seconds: float = 0.0) -> bool:
        raise SlowPatternError(f"{text} takes {seconds}", id="config.slow-pattern")


def test_a_pattern_that_takes_too_long_is_found_before_anything_is_sent(tiny_run: Path, tmp_path: Path) -> None:
    rules = (ClassRule(_Slow("x"), "GLACIER"),)
    request = UploadRequest(
        local_path=tiny_run, destination=Destination("b", ""), log_dir=tmp_path, cores=1, class_rules=rules
    )
    with raises_error(SlowPatternError, "config.slow-pattern"):
        inspect_run(request, {})


def test_files_are_grouped_by_the_class_that_they_get() -> None:
    files = [file("CopyComplete.txt"), file("Data/1.cbcl", 5), file("Data/2.cbcl", 7)]
    groups = choice(BASE_CALLS).group(files)
    assert {name: FileTotals.of(those) for name, those in groups.items()} == {
        "DEEP_ARCHIVE": (2, 12),
        "STANDARD": (1, 1),
    }


def test_objects_in_another_class_than_the_patterns_say_are_counted() -> None:
    remote = {
        "Data/1.cbcl": RemoteObject(1, "e", storage_class="STANDARD"),
        "Data/2.cbcl": RemoteObject(1, "e", storage_class="DEEP_ARCHIVE"),
        "Data/3.cbcl": RemoteObject(1, "e"),  # this server does not say
        "RunInfo.xml": RemoteObject(1, "e", storage_class="STANDARD_IA"),  # no class is requested
    }
    assert choice(BASE_CALLS).count_in_others([*remote, "Data/gone.cbcl"], remote) == 1
    assert choice(default="GLACIER").count_in_others(remote, remote) == 0


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("STANDARD", [0, 1], ""),
        ("INTELLIGENT_TIERING", [0, 1], ""),
        ("STANDARD_IA", [128 * 1024], ""),
        ("STANDARD_IA", [128 * 1024 - 1], "1 of them is smaller than 128 KiB: AWS charges for 128 KiB each"),
        ("GLACIER_IR", [0, 1, MB], "2 of them are smaller than 128 KiB: AWS charges for 128 KiB each"),
        ("DEEP_ARCHIVE", [40 * 1024], ""),
        ("DEEP_ARCHIVE", [1, 2], "2 of them are smaller than 40 KiB: AWS charges for 40 KiB more each"),
    ],
)
def test_what_aws_charges_for_small_objects_is_explained(name: str, sizes: list[int], expected: str) -> None:
    assert explain_small(name, [file(str(number), size) for number, size in enumerate(sizes)]) == expected


def test_a_batch_has_files_of_one_class_and_nothing_is_lost() -> None:
    files = [file(f"Data/{number:04}.{'cbcl' if number % 3 else 'bin'}", number % 5 * 4 * MB) for number in range(400)]
    classes = choice(BASE_CALLS, default="STANDARD_IA")
    queue = BatchQueue([files], class_of=classes.class_of)
    left, taken = queue.left, []
    while queue:
        taken.append(queue.take(3))
        queue.use_file_cost(0.001 if len(taken) % 2 else 0.004)
    assert left > 0
    assert queue.left == pytest.approx(0)
    assert sorted(each for batch in taken for each in batch.files) == sorted(files)
    for batch in taken:
        assert {classes.class_of(each.path) for each in batch.files} == {batch.storage_class}
    assert {batch.storage_class for batch in taken} == {"DEEP_ARCHIVE", "STANDARD_IA"}
    assert [batch.number for batch in taken] == list(range(1, len(taken) + 1))


def test_classes_cost_few_batches() -> None:
    files = [file(f"Data/{number:04}.{'cbcl' if number % 2 else 'bin'}", 10_000) for number in range(4000)]
    assert len(into_batches(files, 2, class_of=choice(BASE_CALLS).class_of)) <= len(into_batches(files, 2)) + 4


def test_the_jobs_of_a_cluster_are_given_the_same_rules(tmp_path: Path) -> None:
    request = UploadRequest(
        local_path=tmp_path,
        destination=Destination("lab-runs", ""),
        log_dir=tmp_path,
        cores=1,
        storage=Storage(storage_class="STANDARD_IA"),
        class_rules=(BASE_CALLS, ALL),
    )
    nothing = FileTotals(0, 0)
    handover = Handover(
        request=request,
        submitted="",
        resumed=False,
        manifest=None,
        amount=nothing,
        verified=nothing,
        sent=nothing,
        seconds=0.0,
    )
    spec = job_spec.JobSpec(name="n", version="1", options=SlurmOptions(), handover=handover)
    again = job_spec.spec_from_json(json.loads(json.dumps(job_spec.spec_to_json(spec))))
    assert again.request.class_rules == request.class_rules
    assert replace(again.request, class_rules=()) == replace(request, class_rules=())
