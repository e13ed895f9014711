"""Texts for people: printable names, numbers with units, rates."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync.text import human_bytes, human_seconds, now_iso, parse_rate, pluralize, printable, summarize


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
def test_numbers_have_their_noun(number: int, text: str) -> None:
    assert pluralize(number, "file") == text


def test_now_is_utc_in_whole_seconds() -> None:
    assert len(now_iso()) == len("2026-11-23T01:02:03+00:00")
    assert now_iso().endswith("+00:00")


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), ([*"abcd"], "a, b, c and 1 more"), (["\x1b"], r"\x1b")],
)
def test_names_are_summarized(names: list[str], text: str) -> None:
    assert summarize(names, 3) == text


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
def test_rates_are_parsed(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "50", "50MB", "50Mb/s", "MB/s", "-1MB/s", "0MB/s", "1e9B/s", "50 TB/s", "٣MB/s"])
def test_wrong_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate in bytes per second"):
        parse_rate(text)
