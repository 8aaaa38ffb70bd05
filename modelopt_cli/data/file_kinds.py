"""What a file is by its first bytes, so that one that is no text table is named, with the way to read it."""

from __future__ import annotations

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.signatures import FileKind, kind_among

HEAD = 4096
"""Bytes from a file's start that are looked at."""

_EXCEL = "open it in a spreadsheet program and save the sheet as CSV"
_UNPACK = "unpack it first"
_REPACK = "unpack it first, or compress it with gzip or zstd"
_AS_TABLE = "write the table in it as CSV or parquet"
_IMAGES = "use 'type: images' with its folder"
_KINDS: dict[FileKind, tuple[str, str]] = {  # what it is, and the remedy
    FileKind.PARQUET: ("a parquet file", "use 'type: parquet' (to predict and evaluate: call it .parquet)"),
    FileKind.OLD_OFFICE: ("an old Excel workbook (.xls, or another old Office file)", _EXCEL),
    FileKind.HDF5: ("an HDF5 file", f"{_AS_TABLE} (pandas: read_hdf, h5py)"),
    FileKind.PDF: ("a PDF", "take the table out of it into a CSV file"),
    FileKind.ARROW: ("an Arrow (feather) file", "write it as parquet or CSV (pandas: read_feather)"),
    FileKind.FEATHER: ("a feather file", "write it as parquet or CSV (pandas: read_feather)"),
    FileKind.ORC: ("an ORC file", "write it as parquet or CSV (pandas: read_orc)"),
    FileKind.AVRO: ("an Avro file", "write it as parquet or CSV"),
    FileKind.NPY: ("an array of numpy (.npy)", "use 'type: npz', or write it as CSV"),
    FileKind.SQLITE: ("an SQLite database", "write the table in it as CSV"),
    FileKind.MATLAB: ("a MATLAB file", "write it as CSV or .npz (scipy.io.loadmat)"),
    FileKind.SPSS: ("an SPSS file", "write it as CSV"),
    FileKind.STATA: ("a Stata file", "write it as CSV (pandas: read_stata)"),
    FileKind.PNG: ("an image", _IMAGES),
    FileKind.JPEG: ("an image", _IMAGES),
    FileKind.GIF: ("an image", _IMAGES),
    FileKind.RAR: ("a RAR archive", _UNPACK),
    FileKind.SEVEN_ZIP: ("a 7z archive", _UNPACK),
    FileKind.LZ4: ("compressed with LZ4", _REPACK),
    FileKind.COMPRESS: ("compressed with compress (.Z)", _REPACK),
    FileKind.TAR: ("a tar archive", _UNPACK),
    FileKind.PICKLE: ("a Python pickle", _AS_TABLE),
    FileKind.RTF: ("a formatted text (RTF)", "save it as plain text"),
    FileKind.GIT_LFS: ("a pointer of Git LFS in place of the file", "fetch the file: git lfs pull"),
}
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
    kind = kind_among(_KINDS, head)
    if kind is not None:
        named, remedy = _KINDS[kind]
        raise InputError(f"{what} is {named}, no text; {remedy}")
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    for mark, named in _MARKUP:
        if begin.startswith(mark):
            raise InputError(f"{what} is {named}, no table; was it downloaded from behind a login or a preview page?")


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
