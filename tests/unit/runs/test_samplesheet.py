"""Samplesheets as instruments, Excel and LIMS really write them, and the regex that must hit every sample."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync.patterns import Pattern
from s3sync.runs import samplesheet
from s3sync.runs.samplesheet import SampleCheck, Verdict, check_samples, find_sheets
from s3sync.runs.sheet_parser import Sample, SheetError, read_samples

V1 = "[Header]\nIEMFileVersion,4\n\n[Reads]\n151\n\n[Data]\nSample_ID,Sample_Name,index\nS1,N1,ACGT\nS2,N2,TTTT\n"
V2 = (
    "[Header]\nFileFormatVersion,2\n[BCLConvert_Settings]\nSoftwareVersion,4.2.7\n[BCLConvert_Data]\n"
    "Lane,Sample_ID,Index\n1,S1,ACGT\n1,S2,TTTT\n[Cloud_Settings]\nGeneratedVersion,1\n"
    "[Cloud_Data]\nSample_ID,ProjectName\nS1,P\nS2,P\n"
)
SLOW = Pattern(r"(a|aa)+$")
SLOW_NAME = "a" * 40 + "!"
LIMIT = 0.3


def ids(content: str | bytes) -> list[str]:
    samples = read_samples(content if isinstance(content, bytes) else content.encode())
    return [sample.sample_id for sample in samples]


def data(*rows: str, title: str = "[Data]") -> str:
    return "\n".join((title, *rows, ""))


def excel(text: str, width: int = 8) -> str:
    """As Excel saves it: every row padded with commas, CRLF."""
    return "".join(line + "," * (width - line.count(",")) + "\r\n" for line in text.splitlines())


# Sheets that can be read


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(V1, id="v1"),
        pytest.param(V2, id="v2 with two data sections"),
        pytest.param(excel(V1), id="padded with commas"),
        pytest.param(excel(V2), id="v2 padded with commas"),
        pytest.param(V1.replace("\n\n", "\n,,,,\n"), id="comma-only rows between the sections"),
        pytest.param(data("Sample_ID", "", "S1", " ", ",,", '"",""', "S2", ",,,"), id="blank rows"),
        # separators and quotes
        pytest.param(V1.replace(",", ";"), id="semicolons"),
        pytest.param(V1.replace(",", "\t"), id="tabs"),
        pytest.param(excel(V2).replace(",", ";"), id="semicolons, padded"),
        pytest.param(data("Sample_ID;", "S1;", "S2;"), id="one column and semicolons"),
        pytest.param(data("Sample_ID", "S1", "S2"), id="one column"),
        pytest.param(data('"Sample_ID";"Index"', '"S1";"A"', '"S2";"C"'), id="quotes and semicolons"),
        pytest.param(data('"Description","Sample_ID"', '"a, b","S1"', '"c ""d""","S2"'), id="commas in quotes"),
        pytest.param(data("Description, Sample_ID", ' "a, b", "S1" ', "x,\tS2 "), id="blanks around cells"),
        pytest.param(data("Description,Sample_ID", '5" tube,S1', "y,S2"), id="a quote inside a cell"),
        pytest.param('[Header]\nKit,"a \\"b\\" c\n"\n' + data("Sample_ID", "S1", "S2"), id="odd quotes elsewhere"),
        # sections
        pytest.param(data("Sample_ID", "S1", "S2", title="[data]"), id="lower case"),
        pytest.param(data("Sample_ID", "S1", "S2", title="[DATA] ,,"), id="blank and commas after the section"),
        pytest.param(data("Sample_ID", "S1", "S2", title=' "[Data]",""'), id="section in quotes"),
        pytest.param(data("Sample_ID", "S1", "S2", title="[ Data ];;"), id="blanks in the section"),
        pytest.param(data("Sample_ID", "S1", "S2", title="[Cloud_Data]"), id="Cloud_Data only"),
        pytest.param(data("Sample_ID,Pair_ID", "S1,P", "S2,P", title="[TSO500_Data]"), id="TSO500_Data"),
        pytest.param(data("Sample_ID", "S1", "S2", title="[tso500s_data],"), id="any other _Data"),
        pytest.param(data("Sample_ID", "S1", "S2") + "[Settings]\nAdapter,ACGT\n", id="a section ends at the next"),
        pytest.param(data("Sample_ID", "S1", "S2") + "[Manifests],,\nA,x.txt\n", id="manifests at the end"),
        pytest.param(data("Sample_ID", "S1") + data("Sample_ID", "S2", "S1", title="[X_Data]"), id="sections add up"),
        pytest.param(data("Index,Pool", "A,1", title="[X_Data]") + data("Sample_ID", "S1", "S2"), id="a bare table"),
        pytest.param(data(title="[BCLConvert_Data]") + data("Sample_ID", "S1", "S2"), id="an empty data section"),
        pytest.param("made by LIMS\n'\"\n" + data("Sample_ID", "S1", "S2"), id="a line before the sections"),
        # headers
        pytest.param(data("Lane,Sample_ID,Index", "1,S1,A", "2,S2,C"), id="Lane first"),
        pytest.param(data("FCID,Lane,SampleID", "F,1,S1", "F,2,S2"), id="FCID first"),
        pytest.param("FCID,Lane,SampleID,SampleRef,Index\nF,1,S1,hg19,A\nF,2,S2,hg19,C\n", id="no sections at all"),
        pytest.param("\ufeff,,\nFCID;Lane;SampleID\nF;1;S1\nF;2;S2\n", id="no sections, BOM, semicolons"),
        *(
            pytest.param(data(f"Lane,{header}", "1,S1", "1,S2"), id=f"header {header}")
            for header in ("SampleID", "Sample ID", "sample_id", "SAMPLE_ID", '"Sample_Id" ', "sample-id")
        ),
        pytest.param(data("SampleID,Sample_ID,sample_id", "x,S1,7", "x,S2,8"), id="the exact spelling among others"),
        # lines for people above the headers
        pytest.param(data("Type your samples below", "Sample_ID,Index", "S1,A", "S2,C"), id="a sentence"),
        pytest.param(data("Add samples, one per line", "Sample_ID,a,b", "S1", "S2"), id="a sentence with a comma"),
        pytest.param(data("Samples go below,,,", "", ",,", "Sample_ID,Index,,", "S1,A", "S2,C"), id="padded"),
        pytest.param(data("One per line", "No blanks", "Sample_ID", "S1", "S2"), id="two sentences and one column"),
        pytest.param(data("# Index,Sample,Well", "Sample_ID,Index", "S1,A", "S2,C"), id="a comment"),
        pytest.param(data('Don\'t "edit', "Sample_ID;Index", "S1;A", "S2;C"), id="an open quote in a sentence"),
        pytest.param(data("Sheet of run 7", "Lane;SampleID", "1;S1", "2;S2", title="[X_Data];"), id="in any section"),
        pytest.param(data("None in this one", "") + data("Sample_ID", "S1", "S2"), id="a section of a sentence"),
        pytest.param(data("key,value", title="[X_Data]") + data("Sample_ID", "S1", "S2"), id="a section of others"),
        # rows
        pytest.param(data("Sample_ID,Index,Project", "S1", "S2,A,P,more,and more"), id="short and long rows"),
        # line ends
        pytest.param(V1.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(V1.replace("\n", "\r"), id="CR"),
        pytest.param(V2.replace("S1,ACGT\n", "S1,ACGT\r\n").replace("[Cloud", "\r[Cloud"), id="mixed line ends"),
        pytest.param(V1.replace("\n", "\r\r\n"), id="CRCRLF"),
        pytest.param(data("Sample_ID", "S1", "S2").strip(), id="no line end at the end"),
        # encodings
        pytest.param(V1.encode("utf-8-sig"), id="UTF-8 with BOM"),
        pytest.param(b"\xef\xbb\xbf" + V1.encode("utf-8-sig"), id="two BOMs"),
        pytest.param(V1.encode("utf-16"), id="UTF-16 with BOM"),
        pytest.param(b"\xfe\xff" + V1.encode("utf-16-be"), id="UTF-16 BE with BOM"),
        pytest.param(V2.encode("utf-16-le"), id="UTF-16 LE without BOM"),
        pytest.param(V2.encode("utf-16-be"), id="UTF-16 BE without BOM"),
    ],
)  # fmt: skip
def test_reads_sheets_of_the_wild(content: str | bytes) -> None:
    assert ids(content) == ["S1", "S2"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(data("Sample_ID", "0012", "1e5", "12.0"), ["0012", "1e5", "12.0"], id="strings stay strings"),
        pytest.param(data("Lane,Sample_ID", "1,S2", "1,S1", "2,S2", "2,S1"), ["S2", "S1"], id="each once across lanes"),
        pytest.param(data("Sample_ID", "S\x0b1", "S\u20282"), ["S\x0b1", "S\u20282"], id="other line ends"),
        pytest.param(data("Sample_ID", "Jürgen 20 µl", "雪").encode(), ["Jürgen 20 µl", "雪"], id="UTF-8"),
        pytest.param(data("Sample_ID", "J\xfcrgen", "5 €").encode("cp1252"), ["Jürgen", "5 €"], id="cp1252"),
        pytest.param(data("Sample_ID", "\x81\xb5").encode("latin-1"), ["\x81µ"], id="bytes that cp1252 lacks"),
        pytest.param(b"\xef\xbb\xbf" + data("SampleID", "\xb5").encode("latin-1"), ["µ"], id="BOM, but not UTF-8"),
    ],
)  # fmt: skip
def test_keeps_names_as_they_are_written(content: str | bytes, expected: list[str]) -> None:
    assert ids(content) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("Sample_ID,Sample_Name", "S1,N1", "S2,"), [("S1", "N1"), ("S2", "")]),
        (("Lane,Sample_Name,SampleID", "1,N1,S1", "2,N1,S1"), [("S1", "N1")]),
        (("Sample_ID,Sample Name", "S1,N1", "S1,N2"), [("S1", "N1"), ("S1", "N2")]),
        (("Sample_ID,Sample_Name", "S1,", "S1,N1"), [("S1", "N1")]),
        (("sample_name,Sample_ID,Sample_Name", "7,S1,N1"), [("S1", "N1")]),
        (("Sample_ID,Index,Sample_Name", "S1,A"), [("S1", "")]),
    ],
)
def test_takes_names_where_they_are_given(rows: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert list(read_samples(data(*rows).encode())) == [Sample(*each) for each in expected]


def test_a_comment_below_the_headers_is_not_a_sample() -> None:
    """One that has more than one cell may be a sample: it is said, not overlooked."""
    rows = '# pool 2,,\nS1,one,A\n"# that\'s all"\n#S2,two,C\n'
    samples = read_samples(f"[Data]\nSample_ID,Sample_Name,index\n{rows}".encode())
    assert [sample.sample_id for sample in samples] == ["S1", "#S2"]


def test_takes_a_name_from_any_section() -> None:
    content = data("Sample_ID", "S1", title="[BCLConvert_Data]") + data(
        "Sample_ID,Sample_Name", "S1,N1", title="[X_Data]"
    )
    assert read_samples(content.encode()) == (Sample("S1", "N1"),)


# Sheets that cannot


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("", "the file is empty", id="empty"),
        pytest.param(" \r\n\n", "the file is empty", id="blank"),
        pytest.param(",,,\n", r"no section \[Data\]", id="commas only"),
        pytest.param("[Header]\nDate,today\n", r"no section \[Data\]", id="no data section"),
        pytest.param("[Header]\nSample_ID\nS1\n", r"no section \[Data\]", id="Sample_ID elsewhere"),
        pytest.param("[Data_Settings]\nSample_ID\nS1\n", r"no section \[Data\]", id="a section like data"),
        pytest.param("[Data]\n", r"no section \[Data\]", id="a section and nothing more"),
        pytest.param(data("", "Sample,Index", "S1,A"), r"no column Sample_ID .*line 3\b", id="no Sample_ID"),
        pytest.param(data("Sample_ID,Index", ",,", ""), "no samples below the headers", id="no samples"),
        pytest.param(data("Sample_ID") + data("x", title="[Y_Data]"), "no samples", id="and a bare table"),
        pytest.param(data("Lane,Sample_ID", "1,S1", "2,"), "line 4 has no Sample_ID", id="a row without Sample_ID"),
        pytest.param(data("Lane,Sample_ID", "1"), "line 3 has no Sample_ID", id="a row that is too short"),
        pytest.param(data("Sample_ID,Sample_ID", "S1,S2"), "line 2 has two columns Sample_ID", id="two columns"),
        pytest.param(data("Sample_ID", "S1") + data("S2"), r"no column Sample_ID in line \d+, as", id="pasted rows"),
        pytest.param(data("sample_id,SampleID", "S1,S2"), "line 2 has two columns Sample_ID", id="two other spellings"),
        pytest.param(data("S0,A", "Sample_ID,Index", "S1,A"), "line 2 is above the headers", id="a row above"),
        pytest.param(data("S0", "Sample_ID", "S1"), "line 2 is above the headers", id="a name above the only header"),
        pytest.param(data(*["a b"] * 60, "Sample_ID", "S1"), "no column Sample_ID", id="headers that are far below"),
        pytest.param(data("Sample_ID,Index", 'S1,"A', "S2,C"), "line 3 has a quote", id="a quote that never closes"),
        pytest.param(data("Sample_ID,Index", '"S1,A', 'S2",C'), "line 3 has a quote", id="a quote over two lines"),
        pytest.param(data("Text,Sample_ID", r'"a \"b, c\" d",S1'), "line 3 has a quote", id="quotes escaped otherwise"),
        pytest.param(data("Sample_ID,Well", "[NTC],A1", "S2,A2"), "line 3 starts with a bracket", id="brackets"),
        pytest.param(data("Sample_ID", "S" * 1001), "line 3 has a sample's name of more than 1,000", id="a long ID"),
        pytest.param(data("Sample_ID,Sample_Name", "S," + "S" * 1001), "line 3 has a sample's name", id="a long name"),
        pytest.param(data("Sample_ID", "S" * 200_000), "line 3 has 200,001 characters", id="a huge field"),
        pytest.param(V1.replace("S2", "S\0"), "NUL", id="a NUL byte"),
        pytest.param(b"\0" * 5000, "NUL", id="nothing but NUL bytes"),
        pytest.param(V1.encode("utf-32"), "NUL", id="UTF-32"),
        pytest.param(V1.encode("utf-16")[:-1], "truncated", id="UTF-16 cut off"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x01\xff\xd8\xff", r"no column Sample_ID", id="a picture"),
        pytest.param(b"PK\x03\x04\x14\x06[Content_Types].xml", r"no column Sample_ID", id="a workbook"),
    ],
)  # fmt: skip
def test_says_why_a_sheet_cannot_be_read(content: str | bytes, reason: str) -> None:
    with pytest.raises(SheetError, match=reason) as caught:
        ids(content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


MILLIONS = 4 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\n" * MILLIONS, id="lines"),
        pytest.param(b"," * MILLIONS, id="commas"),
        pytest.param(b"[Data]\nx\n" * (MILLIONS // 9), id="data sections"),
        pytest.param(b'[Data]\nSample_ID\n"' + b"a" * MILLIONS, id="an open quote"),
        pytest.param(b'[Data]\nSample_ID\n"' + b"a\n" * (MILLIONS // 2), id="an open quote over lines"),
        pytest.param((b"[Data]\n" + b"a," * 49_000 + b"\n") * 30, id="wide headers"),
        pytest.param(b"[Data]\nSample_ID\n" + b"a\n" * (MILLIONS // 2), id="rows"),
    ],
)
def test_a_huge_wrong_sheet_is_refused_soon(content: bytes) -> None:
    start = time.process_time()
    with pytest.raises(SheetError):
        read_samples(content)
    assert time.process_time() - start < 60  # a second or three


def test_reads_a_sheet_of_ten_megabytes() -> None:
    rows = b"".join(b"S%06d,%b\n" % (number, b"x" * 90) for number in range(100_000))
    assert len(read_samples(b"[Data]\nSample_ID,Description\n" + rows)) == 100_000


# Any sheet

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1")


CHARACTERS = "".join(c for c in map(chr, range(32, 256)) if c.isprintable())
NAMES = st.text(CHARACTERS, max_size=12).map(str.strip).filter(bool)


@st.composite
def sheets(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Names without repeats, and a sheet that holds them, as some program would write it."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    separator = draw(st.sampled_from(",;\t"))
    quote_all = draw(st.booleans())

    def row(*cells: str) -> str:
        return separator.join(
            '"' + cell.replace('"', '""') + '"' if quote_all or set(cell) & set(',;"\t') else cell for cell in cells
        )

    header = draw(st.sampled_from(["Sample_ID", "SampleID", "Sample ID", "sample_id"]))
    table = [row("Lane", header, "Index"), *(row("1", name, "ACGT") for name in names)]
    if draw(st.booleans()):
        table += [row("2", name, "ACGT") for name in names]
    title = draw(st.sampled_from(["[Data]", "[data]", "[BCLConvert_Data]", "[Cloud_Data]"]))
    v1_bare = draw(st.booleans())
    lines = (
        table if v1_bare else [row("[Header]", ""), row("Date", "1/2/2024"), separator * 3, row(title, "", ""), *table]
    )
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = line_end.join(lines) + draw(st.sampled_from(["", line_end, line_end * 3]))
    return names, encoded(text, draw(st.sampled_from(ENCODINGS)))


def encoded(text: str, encoding: str) -> bytes:
    """In this encoding, but never in Latin-1 that could be UTF-8."""
    content = text.encode(encoding)
    try:
        content.decode()
    except UnicodeDecodeError:
        return content
    return text.encode() if encoding == "latin-1" else content


@settings(deadline=20_000)
@given(sheets())
def test_gives_back_the_names_that_were_written(sheet: tuple[list[str], bytes]) -> None:
    names, content = sheet
    assert ids(content) == names


# Finding sheets


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("SampleSheet.csv", True),
        ("samplesheet.CSV", True),
        ("Sample_Sheet.csv", True),
        ("sample-sheet.csv", True),
        ("SAMPLE SHEET (copy).csv", True),
        ("20240101_SampleSheet_v2.csv", True),
        ("ü\udcffsamplesheet\n.csv", True),
        ("SampleSheet.csv.bak", False),
        ("SampleSheet.csv\n", False),
        ("SampleSheet.xlsx", False),
        ("SampleSheetcsv", False),
        ("Sample__Sheet.csv", False),
        ("Samples.csv", False),
        ("._SampleSheet.csv", False),
        ("._Sample-Sheet (copy).CSV", False),
        ("~$SampleSheet.csv", False),
        (".SampleSheet.csv", False),
    ],
)
def test_finds_sheets_by_name(tmp_path: Path, name: str, found: bool) -> None:
    (tmp_path / name).touch()
    assert find_sheets(tmp_path) == ([tmp_path / name] if found else [])


def test_finds_files_of_the_run_only(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "Data").mkdir(parents=True)
    (run / "Data" / "SampleSheet.csv").touch()
    (run / "SampleSheet_folder.csv").mkdir()
    (tmp_path / "central.csv").touch()
    os.mkfifo(run / "SampleSheet_pipe.csv")
    for name, target in [("out", "../central.csv"), ("in", "Data/SampleSheet.csv"), ("gone", "nowhere"), ("loop", "")]:
        link = run / f"SampleSheet_{name}.csv"
        link.symlink_to(target or link)
    (run / "SampleSheet_pipe_link.csv").symlink_to("SampleSheet_pipe.csv")
    (run / "SampleSheet.csv").touch()
    assert [path.name for path in find_sheets(run)] == ["SampleSheet.csv", "SampleSheet_in.csv"]


# The verdict

X17 = tuple(f"X{number}" for number in range(17))
X999 = "X" * 999
AMBIGUOUS = "ambiguous samplesheet"
ESCAPE = "\x1b[2J"


@pytest.mark.parametrize(
    ("content", "regex", "failing", "reason"),
    [
        pytest.param(V1, "^S", (), r"^SampleSheet.csv: sample_regex '\^S' is found in every sample \(2\)$", id="match"),
        pytest.param(V1, "2", ("S1",), "not found in 1 of 2 samples: S1$", id="all must match"),
        pytest.param(V1, "N", (), "every", id="the name counts"),
        pytest.param(V1, "S1|N2", (), "every", id="ID here, name there"),
        pytest.param(V1, "S1N1", ("S1", "S2"), "2 of 2", id="each by itself"),
        pytest.param(V2, "^$", ("S1", "S2"), ": S1, S2$", id="no name is not an empty name"),
        pytest.param(data("Sample_ID", *X17), "S", X17, "17 of 17 samples: X0, X1, X2, X3, X4 and 12 more$", id="many"),
        pytest.param(data("Sample_ID", ESCAPE), "S", (ESCAPE,), r"1 of 1 sample: \\x1b\[2J$", id="a name with escapes"),
        pytest.param(data("Sample_ID", X999), "S", (X999,), r": X{57}\.\.\.$", id="a long name"),
        pytest.param(V1, "\n" + "x" * 999, ("S1", "S2"), r"'\\nx{56}\.\.\.'", id="a long regex"),
    ],
)
def test_every_sample_must_match(
    tmp_path: Path, content: str, regex: str, failing: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "SampleSheet.csv").write_text(content)
    check = check_samples(tmp_path, Pattern(regex))
    assert check.verdict == ("samples do not match" if failing else "match")
    assert check.failing == failing
    assert check.samples == tuple(ids(content))
    assert re.search(reason, check.reason)
    assert check.reason.isprintable()
    assert len(check.reason) < 500


@pytest.mark.parametrize(
    ("files", "verdict", "reason"),
    [
        ({}, "no samplesheet", "no file named like SampleSheet.csv in "),
        ({"SampleSheet.csv": "[Data]\nx"}, "unreadable", "SampleSheet.csv: no column Sample_ID"),
        ({"SampleSheet\x1b.csv": ""}, "unreadable", "SampleSheet\\x1b.csv: the file is empty"),
        ({"SampleSheet.csv": V1, "samplesheet.csv": V1}, "match", "every sample"),
        ({"SampleSheet.csv": V1, "samplesheet.csv": V2}, AMBIGUOUS, "SampleSheet.csv and samplesheet.csv differ"),
        ({"SampleSheet.csv": V1, "SampleSheet2.csv": V1, "samplesheet.csv": ""}, AMBIGUOUS, "and samplesheet.csv"),
        ({"SampleSheet.csv": "", "SampleSheet2.csv": V1}, AMBIGUOUS, "keep one, or make them identical"),
    ],
)  # fmt: skip
def test_several_sheets_must_be_identical(tmp_path: Path, files: dict[str, str], verdict: Verdict, reason: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    check = check_samples(tmp_path, Pattern("S"))
    assert (check.verdict, check.failing) == (verdict, ())
    assert reason in check.reason
    assert check.reason.isprintable()


def test_without_a_regex_no_sheet_is_needed(tmp_path: Path) -> None:
    check = check_samples(tmp_path / "gone", None)
    assert check == SampleCheck(verdict="match", reason="no sample_regex is set, so no samplesheet is needed")


def test_counts_a_sample_once_though_it_has_two_names(tmp_path: Path) -> None:
    (tmp_path / "SampleSheet.csv").write_text(data("Sample_ID,Sample_Name", "A,good", "A,bad", "A,worse", "B,good"))
    check = check_samples(tmp_path, Pattern("good"))
    assert (check.samples, check.failing) == (("A", "B"), ("A",))
    assert "1 of 2 samples: A" in check.reason


def test_a_missing_run_is_unreadable(tmp_path: Path) -> None:
    check = check_samples(tmp_path / "gone", Pattern("S"))
    assert (check.verdict, check.samples) == ("unreadable", ())
    assert "gone: No such file or directory" in check.reason


def test_a_sheet_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "SampleSheet.csv").open("wb") as stream:
        stream.truncate(1 << 40)
    check = check_samples(tmp_path, Pattern("S"))
    assert (check.verdict, check.reason) == (
        "unreadable",
        "SampleSheet.csv: larger than 16.8 MB: this is not a samplesheet",
    )


@pytest.mark.parametrize(
    ("swap", "reason"),
    [(os.mkfifo, "cannot be read: it is not a regular file"), (lambda _path: None, "cannot be read: No such")],
)
def test_a_sheet_that_changes_its_nature_meanwhile_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None], reason: str
) -> None:
    sheet = tmp_path / "SampleSheet.csv"
    monkeypatch.setattr(samplesheet, "find_sheets", lambda _run: [sheet])
    swap(sheet)
    check = check_samples(tmp_path, Pattern("S"))
    assert check.verdict == "unreadable"
    assert reason in check.reason


# Regexes without end


def slow_run(folder: Path) -> Path:
    (folder / "SampleSheet.csv").write_text(data("Sample_ID", "aaa", SLOW_NAME))
    return folder


def in_a_thread(work: Callable[[], SampleCheck]) -> SampleCheck:
    results: list[SampleCheck] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def assert_too_slow(check: SampleCheck) -> None:
    assert (check.verdict, check.samples, check.failing) == ("samples do not match", ("aaa", SLOW_NAME), ())
    assert check.reason == (
        f"SampleSheet.csv: sample_regex '(a|aa)+$' takes too long (over 0.3 s, at {SLOW_NAME}): simplify it"
    )


def test_a_regex_without_end_is_ended(tmp_path: Path) -> None:
    start = time.process_time()
    assert_too_slow(check_samples(slow_run(tmp_path), SLOW, LIMIT))
    assert time.process_time() - start < LIMIT + 20  # it ends: without the limit it would take years


def test_a_regex_without_end_is_ended_in_a_thread(tmp_path: Path) -> None:
    assert_too_slow(in_a_thread(lambda: check_samples(slow_run(tmp_path), SLOW, LIMIT)))
