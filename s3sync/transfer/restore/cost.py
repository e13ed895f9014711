"""Estimate the cost of a restore at prices that the user configures: this program has none."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from s3sync.aws import thaw
from s3sync.aws.etag import Multipart
from s3sync.aws.objects import RemoteObject

_GB = 1_000_000_000
_REQUESTS = 1000
_WITHOUT_RETRIEVAL = ("STANDARD", "REDUCED_REDUNDANCY", "INTELLIGENT_TIERING")  # reading them is not charged by size


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in one currency. The keys of the maps are `CLASS` or, of frozen objects, `CLASS/TIER`."""

    currency: str
    transfer_per_gb: float | None = None
    retrieval_per_gb: Mapping[str, float] = field(default_factory=dict)
    requests_per_1000: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """The cost of a restore in `currency`, without what has no price: `missing` names these prices."""

    currency: str
    retrieval: float
    requests: float
    transfer: float
    missing: tuple[str, ...]

    @property
    def total(self) -> float:
        """Return the sum of the three parts."""
        return self.retrieval + self.requests + self.transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What S3 charges for: bytes to retrieve and requests, each by the key of its price, and bytes to transfer."""

    retrieved: Counter[str]
    requests: Counter[str]
    transferred: int


def needs_of(
    found: Iterable[RemoteObject], multipart: Multipart, tier: str, requested: Iterable[RemoteObject] = ()
) -> Needs:
    """Return what S3 charges for the restore of these objects, if those in archives are thawed with this tier.

    `requested` are further objects, whose thawing was requested before and is not charged again.
    """
    retrieved: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    transferred = 0
    for each, is_requested in itertools.chain(((e, False) for e in found), ((e, True) for e in requested)):
        name = each.storage_class or "STANDARD"
        part = multipart.part_size_for(each.size)
        requests[name] += -(-each.size // part) if part else 1
        transferred += each.size
        if is_requested:
            continue
        if name in thaw.ARCHIVES:
            name = f"{name}/{tier}"
            requests[name] += 1
        if name not in _WITHOUT_RETRIEVAL:
            retrieved[name] += each.size
    return Needs(retrieved=retrieved, requests=requests, transferred=transferred)


def estimate(prices: Prices, needs: Needs) -> CostEstimate:
    """Return the cost of these needs at these prices."""
    missing = [f"retrieval_per_gb of {name}" for name in needs.retrieved if name not in prices.retrieval_per_gb]
    missing += [f"requests_per_1000 of {name}" for name in needs.requests if name not in prices.requests_per_1000]
    missing += ["transfer_per_gb"] if prices.transfer_per_gb is None and needs.transferred else []
    return CostEstimate(
        currency=prices.currency,
        retrieval=_sum(needs.retrieved, prices.retrieval_per_gb) / _GB,
        requests=_sum(needs.requests, prices.requests_per_1000) / _REQUESTS,
        transfer=needs.transferred * (prices.transfer_per_gb or 0.0) / _GB,
        missing=tuple(sorted(missing)),
    )


def _sum(amounts: Mapping[str, int], prices: Mapping[str, float]) -> float:
    return sum(amount * prices.get(name, 0.0) for name, amount in amounts.items())
