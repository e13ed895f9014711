"""What a restore costs by the user's prices, and how long thawing takes by tier."""

from __future__ import annotations

import pytest

from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.objects import RemoteObject
from s3sync.aws.thaw import hours_by_tier
from s3sync.transfer.restore import space
from s3sync.transfer.restore.cost import Prices, estimate, needs_of

GB = 1_000_000_000
MIB = 1024 * 1024


def of(storage_class: str, *sizes: int) -> list[RemoteObject]:
    return [RemoteObject(size, "e", storage_class=storage_class) for size in sizes]


def test_bytes_and_requests_have_the_price_of_their_class_and_tier() -> None:
    found = [*of("DEEP_ARCHIVE", *[GB // 2] * 2000), *of("STANDARD_IA", *[GB // 1000] * 1000), *of("", *[0] * 7000)]
    prices = Prices(
        currency="USD",
        transfer_per_gb=0.25,
        retrieval_per_gb={"DEEP_ARCHIVE/Bulk": 0.5, "STANDARD_IA": 2, "DEEP_ARCHIVE/Standard": 99},
        requests_per_1000={"DEEP_ARCHIVE/Bulk": 4, "DEEP_ARCHIVE": 0.01, "STANDARD_IA": 3, "STANDARD": 1},
    )

    cost = estimate(prices, needs_of(found, DEFAULT_MULTIPART, "Bulk"))

    assert cost.missing == ()
    assert cost.retrieval == pytest.approx(1000 * 0.5 + 1 * 2)
    ranges = -(-(GB // 2) // (8 * MIB))  # a large object takes many requests
    assert cost.requests == pytest.approx(2 * 4 + 2 * ranges * 0.01 + 1 * 3 + 7 * 1)
    assert cost.transfer == pytest.approx(1001 * 0.25)
    assert cost.total == pytest.approx(cost.retrieval + cost.requests + cost.transfer)


def test_missing_prices_are_named_and_count_nothing() -> None:
    found = [*of("GLACIER", GB), *of("INTELLIGENT_TIERING", GB)]
    cost = estimate(Prices(currency="USD"), needs_of(found, DEFAULT_MULTIPART, "Standard"))
    assert cost.total == 0
    assert cost.missing == (
        "requests_per_1000 of GLACIER",
        "requests_per_1000 of GLACIER/Standard",
        "requests_per_1000 of INTELLIGENT_TIERING",
        "retrieval_per_gb of GLACIER/Standard",
        "transfer_per_gb",
    )


def test_a_price_of_zero_is_a_price() -> None:
    prices = Prices(currency="USD", transfer_per_gb=0, requests_per_1000={"STANDARD": 0})
    assert estimate(prices, needs_of(of("STANDARD", GB), DEFAULT_MULTIPART, "Bulk")).missing == ()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], {}),
        (["GLACIER"], {"Bulk": 12, "Standard": 5, "Expedited": 0.1}),
        (["DEEP_ARCHIVE"], {"Bulk": 48, "Standard": 12}),
        (["DEEP_ARCHIVE", "GLACIER"], {"Bulk": 48, "Standard": 12}),
    ],
)
def test_only_tiers_that_thaw_all_classes_are_offered(classes: list[str], expected: dict[str, float]) -> None:
    assert hours_by_tier(classes) == expected
    assert list(hours_by_tier(classes)) == list(expected)


@pytest.mark.parametrize(
    ("needed", "free", "expected"),
    [(0, 0, True), (1, 64 * MIB, False), (1, 64 * MIB + 1, True), (GB, GB + 64 * MIB - 1, False)],
)
def test_some_of_the_disk_stays_free(needed: int, free: int, expected: bool) -> None:
    assert space.is_enough(needed, free) is expected
