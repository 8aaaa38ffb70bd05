"""What a file is: packed tables are read, other kinds are named with the remedy, bombs are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import resource
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.opening import open_bytes, table_suffix
from modelopt_cli.data.raw import RawData

TABLE = "a,c,y\n" + "".join(f"{i * 0.5},{'uv'[i % 2]},{'no' if i % 3 else 'yes'}\n" for i in range(60))


def load(path: Path, kind: str = "csv", **options: Any) -> RawData:
    source = FAMILIES["data"].get(kind).model_validate({"path": str(path), "target": "y", **options})
    return source.load(0)  # type: ignore[attr-defined]


def zipped(data: bytes, *names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return stream.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "zip": lambda data: zipped(data, "d.csv", "__MACOSX/._d.csv"),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_tables_are_read(packing: str, tmp_path: Path) -> None:
    plain, path = tmp_path / "d.csv", tmp_path / f"d.csv.{packing}"
    plain.write_text(TABLE)
    path.write_bytes(PACKINGS[packing](TABLE.encode()))
    loaded, wanted = load(path), load(plain)
    pd.testing.assert_frame_equal(loaded.inputs, wanted.inputs)  # type: ignore[arg-type]
    assert loaded.label_names == wanted.label_names
    renamed = path.rename(tmp_path / "renamed.csv")  # known by its content, not by its name
    assert len(load(renamed)) == 60


@pytest.mark.parametrize("packing", PACKINGS)
def test_cut_off_files_are_never_read_as_far_as_they_go(packing: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = "".join(f"{np.sin(i)},u,{'no' if i % 3 else 'yes'}\n" for i in range(20_000))
    content = PACKINGS[packing](("a,c,y\n" + rows).encode())
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(InputError, match="damaged or cut off"):
        load(path)


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.zst"
    pack = zstandard.ZstdCompressor().compress
    path.write_bytes(pack(TABLE[:100].encode()) + pack(TABLE[100:].encode()))
    assert len(load(path)) == 60


def test_tabs_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(TABLE)
    (tmp_path / "d.tsv").write_text(TABLE.replace(",", "\t"))
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(TABLE.replace(",", "\t").encode()))
    frame = pd.read_csv(tmp_path / "d.csv")
    lines = "".join(json.dumps(row) + "\n" for row in frame.to_dict(orient="records"))
    (tmp_path / "d.jsonl").write_text(lines)
    (tmp_path / "d.zip").write_bytes(zipped(lines.encode(), "inner.jsonl"))
    wanted = load(tmp_path / "d.csv")
    for name in ("d.tsv", "d.tsv.gz", "d.jsonl", "d.zip"):
        loaded = load(tmp_path / name)
        pd.testing.assert_frame_equal(loaded.inputs, wanted.inputs)  # type: ignore[arg-type]
        assert np.array_equal(loaded.targets, wanted.targets)


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    rows = [{"zip": "02139", "n": 1, "y": "a"}, {"zip": "3.50", "n": None, "y": "b"}, {"zip": "NA", "y": "a"}] * 3
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = load(path)
    assert isinstance(loaded.inputs, pd.DataFrame)
    assert loaded.inputs["zip"].tolist()[:3] == ["02139", "3.50", "NA"]
    assert np.isnan(loaded.inputs["n"][1])
    assert np.isnan(loaded.inputs["n"][2])
    marked = load(path, missing_values=["NA"]).inputs
    assert isinstance(marked, pd.DataFrame)
    assert pd.isna(marked["zip"][2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x": 1, "y": 2}\n{"x": 1', "line 2 is no JSON"),
        ("[1, 2]\n", r"line 1 is '\[1, 2\]', but each line must be an object"),
        ('{"x": 1, "x": 2, "y": 0}\n', "line 1 has two values called 'x'"),
        ("\n\n", "is empty"),
        ("[" * 100_000, "line 1 is nested too deeply"),
    ],
)
def test_json_lines_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "d.jsonl")


def excel(folder: Path) -> bytes:
    return zipped(b"<x/>", "[Content_Types].xml", "xl/workbook.xml")


def parquet(folder: Path) -> bytes:
    (folder / "p").mkdir()
    pd.DataFrame({"a": [1], "y": [2]}).to_parquet(folder / "p" / "p.parquet")
    return (folder / "p" / "p.parquet").read_bytes()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "s.db") as connection:
        connection.execute("create table t (a)")
    connection.close()
    return (folder / "s.db").read_bytes()


KINDS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "utf-16": (lambda _: TABLE.encode("utf-16"), "is UTF-16 text, not utf-8; write 'encoding: utf-16'"),
    "utf-16-le": (lambda _: TABLE.encode("utf-16-le"), "is UTF-16 text, not utf-8; write 'encoding: utf-16-le'"),
    "utf-16-be": (lambda _: TABLE.encode("utf-16-be"), "is UTF-16 text, not utf-8; write 'encoding: utf-16-be'"),
    "utf-32": (lambda _: TABLE.encode("utf-32"), "is UTF-32 text, not utf-8; write 'encoding: utf-32'"),
    "xlsx": (excel, "is an Excel workbook, no text; open it in a spreadsheet program and save the sheet as CSV"),
    "xls": (lambda _: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), r"is an old Excel workbook \(.xls"),
    "ods": (lambda _: zipped(b"x", "mimetype", "content.xml"), "is an OpenDocument file"),
    "hdf5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(600), "is an HDF5 file"),
    "parquet": (parquet, "is a parquet file, no text; use 'type: parquet'"),
    "pdf": (lambda _: b"%PDF-1.7\n" + bytes(100), "is a PDF"),
    "html": (lambda _: b"\xef\xbb\xbf\n <!DOCTYPE html><html>a,y</html>\n", "is a page of HTML, no table"),
    "sqlite": (database, "is an SQLite database"),
    "npz": (lambda _: zipped(b"x", "a.npy"), "is numpy's .npz, no text; use 'type: npz'"),
    "pickle": (lambda _: b"\x80\x04\x95" + bytes(100), "is a Python pickle"),
    "tar in gz": (lambda _: gzip.compress(bytes(257) + b"ustar" + bytes(300)), "is a tar archive, no text; unpack"),
    "excel in gz": (lambda _: gzip.compress(b"%PDF-1.7\n"), "is a PDF"),
    "json": (lambda _: b'[\n {"a": 1, "y": 2}]', "is JSON, no CSV; .* end in .jsonl"),
    "lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "two files": (lambda _: zipped(b"a,y\n", "a.csv", "b.csv"), r"has 2 files \('a.csv', 'b.csv'\).*unpack it first"),
    "latin-1": (lambda _: "größe,y\n1,2\n".encode("latin-1"), "is no utf-8 text .*set 'encoding', e.g. cp1252"),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_are_named(name: str, tmp_path: Path) -> None:
    make, message = KINDS[name]
    path = tmp_path / "d.csv"
    path.write_bytes(make(tmp_path))
    with pytest.raises(InputError, match=message):
        load(path)
    if "utf-16" not in message and name != "latin-1":
        with pytest.raises(InputError, match=message.replace("not utf-8", "not latin-1")):
            load(path, encoding="latin-1")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_remedy_for_unicode_works(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(TABLE.encode(encoding))
    assert load(path, encoding=encoding).feature_names == ("a", "c")
    path.write_bytes(("\ufeff" + TABLE).encode("utf-16-le"))
    assert load(path, encoding="utf-16-le").feature_names == ("a", "c")


def test_what_is_called_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(excel(tmp_path))
    with pytest.raises(InputError, match="cannot be read as parquet"):
        load(path, "parquet")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(InputError, match="is an HDF5 file"):
        load(path, "parquet")


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["gz", "zst", "zip"])
def test_bombs_are_refused_on_the_way(packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"d.csv.{packing}"
    line = b"1,2\n" if packing == "zst" else b"0" * 2**20 + b"\n"
    path.write_bytes(PACKINGS[packing](b"a,y\n" + line * (80 * 2**20 // len(line))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_bytes(path) as stream, pytest.raises(RefusedError, match="unpacks to more than 500 times its size"):
        shutil.copyfileobj(stream, io.BytesIO(), 2**20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    with path.open("wb") as file:
        file.write(b"a,y\n")
        file.truncate(200 * 2**20)  # zero bytes that take no room on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError, match="has a line of more than"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KB


def test_endings(tmp_path: Path) -> None:
    assert [table_suffix(Path(name)) for name in ("a.csv", "a.CSV.GZ", "a.b.tsv.zst", "a.gz", "a.npz")] == [
        *(".csv", ".csv", ".tsv", "", ".npz")
    ]
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(b"x", "b.tsv"))
    assert table_suffix(path) == ".tsv"
    with open_bytes(path) as stream:
        assert stream.read() == b"x"
