"""`max_bandwidth`, all day or by a timetable: what a process is given, when it is ended, what the server sees."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.settings import CliSettings
from s3sync.transfer.process_configs import ProcessConfigs
from s3sync.transfer.request.bandwidth import BandwidthSchedule, parse_schedule
from s3sync.transfer.throttle import GRACE_SECONDS, Forecast, RunningShares, Throttle
from tests.helpers.contexts import context_of
from tests.helpers.lab import AWS_V1, FakeAws, Lab
from tests.helpers.s3server import S3Server

pytestmark = pytest.mark.real_aws

MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001 - timetables are in local time


def at(day: int, clock: str) -> datetime:
    """A time in the week that begins with that Monday."""
    hour, minute = map(int, clock.split(":"))
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def test_one_rate_holds_all_day() -> None:
    assert {parse_schedule("50MB/s").rate(at(day, "03:07")) for day in range(7)} == {50_000_000}


@pytest.mark.parametrize(
    ("window", "moment", "holds"),
    [
        ("08:00-18:00", at(0, "07:59"), False),
        ("08:00-18:00", at(0, "08:00"), True),
        ("08:00-18:00", at(6, "17:59"), True),
        ("08:00-18:00", at(0, "18:00"), False),
        ("00:00-24:00", at(3, "23:59"), True),
        ("22:00-06:00", at(1, "23:00"), True),
        ("22:00-06:00", at(1, "05:59"), True),
        ("22:00-06:00", at(1, "06:00"), False),
        ("Mon-Fri 08:00-18:00", at(4, "12:00"), True),
        ("Mon-Fri 08:00-18:00", at(5, "12:00"), False),
        ("fri-mon 08:00-18:00", at(6, "12:00"), True),
        ("Fri-Mon 08:00-18:00", at(1, "12:00"), False),
        ("Sat 10:00-11:00", at(5, "10:30"), True),
        ("Sun 22:00-06:00", at(0, "03:00"), True),
        ("Sun 22:00-06:00", at(6, "03:00"), False),
    ],
)
def test_a_window_includes_its_first_minute_and_not_its_last(window: str, moment: datetime, holds: bool) -> None:
    assert (parse_schedule({window: "1MB/s"}).rate(moment) is not None) == holds


def test_where_windows_overlap_the_least_rate_holds() -> None:
    limit = parse_schedule({"08:00-18:00": "50MB/s", "12:00-13:00": "5MB/s", "12:30-14:00": "10MB/s"})
    assert [limit.rate(at(0, clock)) for clock in ("12:45", "13:30", "17:00", "18:00")] == [
        5_000_000,
        10_000_000,
        50_000_000,
        None,
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"8-18": "50MB/s"}, "'8-18' is not a time of the day (e.g. 08:00-18:00, or Mon-Fri 08:00-18:00)"),
        ({"08:00-25:00": "50MB/s"}, "'08:00-25:00' is not a time of the day (from 00:00 to 24:00"),
        ({"24:00-06:00": "50MB/s"}, "'24:00-06:00' is not a time of the day"),
        ({"08:00-08:00": "50MB/s"}, "with two different times"),
        ({"Mit 08:00-18:00": "50MB/s"}, "'Mit 08:00-18:00' is not a time of the day"),
        ({"08:00-18:00": "50"}, "not a rate in bytes per second: '50'"),
        ("fast", "not a rate in bytes per second: 'fast'"),
    ],
)
def test_a_wrong_schedule_is_refused(wrong: Any, why: str) -> None:
    with pytest.raises(ValueError, match=r"not a rate|not a time") as raised:
        parse_schedule(wrong)
    assert why in str(raised.value)


class Day:
    """A clock that a test sets; 4 processes, 40 MB/s from eight to six."""

    def __init__(self) -> None:
        self.time = at(0, "07:00")
        limit = parse_schedule({"08:00-18:00": "40MB/s"})
        self.throttle = Throttle(
            limit, 4, RunningShares(), lambda: 1.0, now=lambda: self.time, clock=lambda: self.time.timestamp()
        )


@pytest.fixture
def day() -> Day:
    return Day()


def test_each_process_gets_its_share_of_what_holds_when_it_starts(day: Day) -> None:
    assert day.throttle.share() is None
    day.time = at(0, "08:00")
    assert day.throttle.share() == 10_000_000


def test_a_process_that_is_alone_gets_all_of_it(day: Day) -> None:
    """A file of 100 GB that is sent last would take nine hours instead of half of one."""
    assert day.throttle.share_beside([], Forecast(0, 1.0)) is None
    day.time = at(0, "08:00")
    assert day.throttle.share_beside([], Forecast(0, 1.0)) == 40_000_000
    assert day.throttle.share_beside([10_000_000], Forecast(0)) == 30_000_000
    assert day.throttle.share_beside([10_000_000] * 3, Forecast(0)) == 10_000_000


def test_a_process_with_most_of_the_bytes_gets_most_of_it_and_the_others_something(day: Day) -> None:
    day.time = at(0, "08:00")
    shares: list[int | None] = []
    for coming, part in ((3, 0.9), (2, 0.4), (1, 0.5), (0, 1.0)):
        shares.append(day.throttle.share_beside(shares, Forecast(coming, part)))
    given = [share or 0 for share in shares]
    assert given[0] == 36_000_000
    assert min(given) >= 1_250_000
    assert sum(given) <= 40_000_000


@pytest.mark.parametrize("parts", [[0.0] * 4, [1.0] * 4, [0.3, 0.0, 1.0, 0.5], [0.97, 0.01, 0.01, 0.01]])
def test_what_processes_get_together_is_what_is_allowed(day: Day, parts: list[float]) -> None:
    day.time = at(0, "08:00")
    shares: list[int | None] = []
    for number, part in enumerate(parts):
        shares.append(day.throttle.share_beside(shares, Forecast(3 - number, part)))
    assert sum(share or 0 for share in shares) <= 40_000_000
    assert day.throttle.over_limit(dict(enumerate(shares))) == []
    assert all(share and share >= 1_250_000 for share in shares)


def test_its_config_has_the_share(tmp_path: Path) -> None:
    configs = ProcessConfigs({"HOME": str(tmp_path)}, CliSettings(4), tmp_path)
    assert "max_bandwidth = 9765KB/s" in configs.with_bandwidth(10_000_000).read_text()
    assert configs.with_bandwidth(10_000_000) != configs.with_bandwidth(5_000_000)


def test_a_process_of_a_wider_window_is_ended_when_it_does_not_end_by_itself(day: Day) -> None:
    shares = {11: None, 12: 10_000_000, 13: 50_000_000}
    assert day.throttle.over_limit(shares) == []
    day.time = at(0, "08:00")
    assert day.throttle.over_limit(shares) == []
    day.time += timedelta(seconds=GRACE_SECONDS - 1)
    assert day.throttle.over_limit(shares) == []
    day.time += timedelta(seconds=1)
    assert day.throttle.over_limit(shares) == [11, 13]
    assert day.throttle.over_limit({12: 10_000_000}) == []
    day.time = at(0, "18:00")
    assert day.throttle.over_limit(shares) == []


def test_the_next_narrow_window_has_its_own_grace(day: Day) -> None:
    day.time = at(0, "08:00")
    assert day.throttle.over_limit({11: None}) == []
    day.time = at(0, "18:00")
    assert day.throttle.over_limit({11: None}) == []
    day.time = at(1, "08:00")
    assert day.throttle.over_limit({11: None}) == []


def zone_where_it_is(hour: int) -> str:
    """A value of TZ for which the local time is between this hour and the next."""
    offset = (hour - datetime.now(timezone.utc).hour + 12) % 24 - 12
    return f"XXX{-offset:+d}"


@pytest.fixture
def recording_aws(fake_aws: FakeAws, lab: Lab) -> str:
    """An `aws` that appends the config of each `s3 cp` to a file."""
    seen = lab.root / "configs"
    code = f"if 'cp' in argv: open({str(seen)!r}, 'a').write(open(os.environ['AWS_CONFIG_FILE']).read())"
    return fake_aws(code)


@pytest.mark.parametrize(("hour", "is_limited"), [(12, True), (20, False)])
def test_the_timetable_is_read_in_local_time_when_a_process_starts(
    lab: Lab, tiny_run: Path, recording_aws: str, hour: int, is_limited: bool
) -> None:
    limit = {"11:00-14:00": "40MB/s"}
    more: dict[str, Any] = {"max_bandwidth": limit, "max_cores": 4, "aws_command": recording_aws}
    assert lab.watch(tiny_run, env={"TZ": zone_where_it_is(hour)}, **more).code == 0
    assert ("max_bandwidth = " in (lab.root / "configs").read_text()) == is_limited
    assert lab.log(tiny_run)["completed"] is True


def test_the_server_sees_no_more_bytes_than_the_timetable_allows(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The clock starts before the first byte and ends after the last: a busy machine only makes the time longer."""
    for number in range(8):
        (tiny_run / f"Data/{number}.cbcl").write_bytes(bytes([number]) * 1_000_000)
    config = lab.config_for(tiny_run, max_bandwidth={"11:00-14:00": "2MB/s"}, max_cores=2, aws_command=AWS_V1)
    with (
        server.hold(method="GET", operation="ListObjectsV2") as gate,
        lab.start("monitor", "--config", config, env={"TZ": zone_where_it_is(12)}) as process,
    ):
        gate.wait_held()  # nothing is sent before S3 has said what it has
        began = time.monotonic()
        gate.release()
        server.wait_for(lambda request: request.bytes > 100_000, 8)
        seconds = time.monotonic() - began
        process.communicate(timeout=120)
    assert seconds > 8 / 2 / 2, "eight megabytes at two a second; the CLI averages, so half of that is required"
    assert json.loads(lab.log_path(tiny_run).read_bytes())["completed"] is True


def test_a_process_that_outlives_a_wider_window_is_ended(
    lab: Lab, server: S3Server, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3sync.aws import client
    from s3sync.runs import local_files, run_folder
    from s3sync.signals import StopRequest
    from s3sync.transfer import batch_sender
    from s3sync.transfer.batches import Batch
    from s3sync.transfer.sharing import MachineShare

    run = run_folder.open_run(tiny_run)
    day = Day()
    aws = client.connect(CliSettings(4, command=AWS_V1), lab.env, StopRequest(), lab.tmp)
    monkeypatch.setattr(MachineShare, "throttle", lambda *_args: day.throttle)
    sender = batch_sender.BatchSender(context_of(aws, run, lab.tmp), run)
    sent: list[batch_sender.BatchResult] = []
    batch = Batch(1, local_files.list_files(run).files)
    thread = threading.Thread(target=lambda: sent.append(sender.send(batch)))
    with server.hold() as gate:
        thread.start()
        gate.wait_held()
        day.time = at(0, "08:00")
        sender.enforce_bandwidth()
        day.time += timedelta(seconds=GRACE_SECONDS)
        sender.enforce_bandwidth()
        thread.join(timeout=120)
    assert sent[0].last_error == "aws was faster than max_bandwidth allows at this time, so it was terminated"
    assert BandwidthSchedule(()).rate(day.time) is None
