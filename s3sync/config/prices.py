"""Read the prices of the config, for estimates: this program knows no prices itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema

from s3sync.aws import thaw
from s3sync.aws.destination import STORAGE_CLASSES
from s3sync.config.entry import Model
from s3sync.config.value_types import Number, PairsFromMap, invalid
from s3sync.transfer.restore.cost import Prices

_MAX_CURRENCY = 20  # characters
_KEYS = (*STORAGE_CLASSES, *(f"{name}/{tier}" for name in thaw.ARCHIVES for tier in thaw.hours_by_tier([name])))


def _key(text: str) -> str:
    if text not in _KEYS:
        raise invalid(f"must be CLASS, or CLASS/TIER of an archive: {', '.join(_KEYS)}", id="config.unknown-value")
    return text


def _currency(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > _MAX_CURRENCY:
        raise invalid(f"must be the name of a currency, at most {_MAX_CURRENCY} characters long", id="config.bad-value")
    return text


_Price = Annotated[Number, Field(ge=0)]
_ByClass = Annotated[
    tuple[tuple[str, float], ...],
    PairsFromMap(Annotated[Text, AfterValidator(_key)], _Price),
    Schema(
        {
            "type": "object",
            "propertyNames": {"enum": list(_KEYS)},
            "additionalProperties": {"type": "number", "minimum": 0},
        }
    ),
]


class PriceKeys(Model):
    """The prices of S3, as the user found them in the price list. Estimates leave out missing ones."""

    currency: Annotated[Text, AfterValidator(_currency)] = Field(
        description="The currency of all prices, as estimates show it."
    )
    transfer_per_gb: _Price | None = Field(
        default=None, description="For each gigabyte (1,000,000,000 bytes) that leaves S3; 0 in the bucket's region."
    )
    retrieval_per_gb: _ByClass = Field(
        default=(),
        description="For each gigabyte retrieved, by CLASS, e.g. STANDARD_IA, or CLASS/TIER, e.g. GLACIER/Bulk.",
        json_schema_extra={"default": {}},
    )
    requests_per_1000: _ByClass = Field(
        default=(),
        description="For 1,000 requests: by CLASS to read objects, by CLASS/TIER to thaw them.",
        json_schema_extra={"default": {}},
    )

    @property
    def for_restore(self) -> Prices:
        """The prices as an estimate needs them."""
        return Prices(
            currency=self.currency,
            transfer_per_gb=self.transfer_per_gb,
            retrieval_per_gb=dict(self.retrieval_per_gb),
            requests_per_1000=dict(self.requests_per_1000),
        )
