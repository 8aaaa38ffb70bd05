"""What a file is by its first bytes, so that one that is no text table is named, with the way to read it."""

from __future__ import annotations

from modelopt_cli.core.errors import InputError

HEAD = 4096
"""Bytes from a file's start that are looked at."""

_EXCEL = "open it in a spreadsheet program and save the sheet as CSV"
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (  # (offset, bytes, what it is, remedy)
    (0, b"PAR1", "a parquet file", "use 'type: parquet' (to predict and evaluate: call it .parquet)"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls, or another old Office file)", _EXCEL),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write the table in it as CSV or parquet (pandas: read_hdf, h5py)"),
    (0, b"%PDF", "a PDF", "take the table out of it into a CSV file"),
    (0, b"ARROW1", "an Arrow (feather) file", "write it as parquet or CSV (pandas: read_feather)"),
    (0, b"FEA1", "a feather file", "write it as parquet or CSV (pandas: read_feather)"),
    (0, b"ORC", "an ORC file", "write it as parquet or CSV (pandas: read_orc)"),
    (0, b"Obj\x01", "an Avro file", "write it as parquet or CSV"),
    (0, b"\x93NUMPY", "an array of numpy (.npy)", "use 'type: npz', or write it as CSV"),
    (0, b"SQLite format 3\x00", "an SQLite database", "write the table in it as CSV"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file", "write it as CSV or .npz (scipy.io.loadmat)"),
    (0, b"$FL2", "an SPSS file", "write it as CSV"),
    (0, b"<stata_dta>", "a Stata file", "write it as CSV (pandas: read_stata)"),
    (0, b"\x89PNG", "an image", "use 'type: images' with its folder"),
    (0, b"\xff\xd8\xff", "an image", "use 'type: images' with its folder"),
    (0, b"GIF8", "an image", "use 'type: images' with its folder"),
    (0, b"Rar!", "a RAR archive", "unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4", "unpack it first, or compress it with gzip or zstd"),
    (0, b"\x1f\x9d", "compressed with compress (.Z)", "unpack it first, or compress it with gzip or zstd"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"\x80\x02", "a Python pickle", "write the table in it as CSV or parquet"),
    (0, b"\x80\x03", "a Python pickle", "write the table in it as CSV or parquet"),
    (0, b"\x80\x04", "a Python pickle", "write the table in it as CSV or parquet"),
    (0, b"\x80\x05", "a Python pickle", "write the table in it as CSV or parquet"),
    (0, b"{\\rtf", "a formatted text (RTF)", "save it as plain text"),
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file", "fetch the file: git lfs pull"),
)
_MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a page of HTML"),
    (b"<html", "a page of HTML"),
    (b"<?xml", "XML"),
)
_MARKS: tuple[tuple[bytes, str], ...] = (  # of byte order; UTF-32's first, for it begins with UTF-16's
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def refuse_other_kinds(head: bytes, what: str) -> None:
    """Raises InputError where `head`, a file's first bytes, are those of something that is no text table."""
    for offset, start, kind, remedy in _KINDS:
        if head[offset:].startswith(start):
            raise InputError(f"{what} is {kind}, no text; {remedy}")
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    for mark, kind in _MARKUP:
        if begin.startswith(mark):
            raise InputError(f"{what} is {kind}, no table; was it downloaded from behind a login or a preview page?")


def is_json(head: bytes) -> bool:
    """Whether it begins as a JSON object or an array of them."""
    begin = b"".join(head.removeprefix(b"\xef\xbb\xbf")[:200].split())
    return begin.startswith((b'{"', b'[{"', b"[{}", b"{}"))


def encoding_by_marks(head: bytes) -> str | None:
    """The Unicode encoding that a byte order mark names, or that zero bytes between ASCII letters give away."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2], head[1::2]
    if len(odd) >= 4:
        first, second = even.count(0) / len(even), odd.count(0) / len(odd)
        if second > 0.4 and first < 0.05:
            return "utf-16-le"
        if first > 0.4 and second < 0.05:
            return "utf-16-be"
    return None


def office_kind(names: list[str]) -> str | None:
    """What a zip archive with members of these names is, where it is more than files packed together."""
    if "[Content_Types].xml" in names:
        return "an Excel workbook" if any(name.startswith("xl/") for name in names) else "an Office document"
    if "mimetype" in names and "content.xml" in names:
        return "an OpenDocument file"
    if names and all(name.endswith(".npy") for name in names):
        return "numpy's .npz"
    if any(name.endswith("/data.pkl") for name in names):
        return "a file of torch"
    return None


def office_remedy(kind: str) -> str:
    """What to do with what `office_kind` names."""
    return {"numpy's .npz": "use 'type: npz'", "a file of torch": "write its tensors as .npz or CSV"}.get(kind, _EXCEL)
