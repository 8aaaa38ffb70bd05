"""What a file is that is no file of torch's: told by its first bytes, so that an error can say it and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection

from modelopt_cli.core.signatures import FileKind, kind_among

HEAD = 512  # bytes: what `kind_of` looks at
_ONNX = (
    "an ONNX model, a graph with weights in it; save the module that it came from: torch.save(module.state_dict(), ...)"
)
_KINDS: dict[FileKind, str] = {
    FileKind.HDF5: "an HDF5 file (Keras, h5py); load it with Keras and save its arrays with safetensors",
    FileKind.GGUF: "a GGUF file (llama.cpp), whose weights are quantized in blocks; "
    "take the safetensors that it was made of",
    FileKind.NPY: "an array of numpy's (.npy); save a dict of tensors: torch.save({'weight': tensor}, ...)",
    FileKind.GZIP: "packed with gzip; unpack it first: gunzip FILE",
    FileKind.BZIP2: "packed with bzip2; unpack it first: bunzip2 FILE",
    FileKind.XZ: "packed with xz; unpack it first: unxz FILE",
    FileKind.ZSTANDARD: "packed with Zstandard; unpack it first: unzstd FILE",
    FileKind.SEVEN_ZIP: "a 7-Zip archive; unpack it first",
    FileKind.RAR: "a RAR archive; unpack it first",
    FileKind.GIT_LFS: "a pointer of Git LFS in the place of the file; fetch the file itself: git lfs pull",
    FileKind.NCNN_PARAM: "a network of ncnn's (.param); take the file of torch's that it was made of",
    FileKind.NCNN_BIN: "weights of ncnn's (.bin); take the file of torch's that it was made of",
    FileKind.PDF: "a PDF document, no weights",
    FileKind.PNG: "a picture (PNG), no weights",
    FileKind.JPEG: "a picture (JPEG), no weights",
    FileKind.ELF: "a program or library (ELF), no weights",
    FileKind.SQLITE: "an SQLite data base, no weights",
    FileKind.PARQUET: "a Parquet table, no weights",
    FileKind.TFLITE: "a TensorFlow Lite model; take the model that it was made of",
    FileKind.TAR: "a tar archive; unpack it first "
    "(torch before 0.1.10 saved such: load and save it with a newer torch)",
}
_TEXT = re.compile(rb"[\t\r\n\x20-\x7e\x80-\xff]+")
_MSGPACK = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.|\xda..)[\x20-\x7e]", re.DOTALL)
_PROTOBUF = re.compile(rb"\x08[\x01-\x20](?:[\x12\x1a\x22\x32\x3a\x42]|\x28)", re.DOTALL)


def is_zip(head: bytes) -> bool:
    """What torch itself goes by."""
    return FileKind.ZIP.matches(head)


def is_safetensors(head: bytes, size: int) -> bool:
    """The length of a header that the file holds, and the header's beginning."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def kind_of(head: bytes, name: str) -> str | None:
    """What a file is that begins so, and what to do: `an ONNX model; ...`. None where it is not known.

    `name` decides where the first bytes leave it open.
    """
    known = kind_among(_KINDS, head)
    if known is not None:
        return _KINDS[known]
    suffix = name.lower().rpartition(".")[2]
    if suffix == "onnx" or (_PROTOBUF.match(head) and (b"onnx" in head.lower() or b"pytorch" in head)):
        return _ONNX
    if suffix == "pb":
        return "a graph of TensorFlow's; export its arrays with safetensors"
    if _PROTOBUF.match(head):
        return "a protocol buffer (ONNX, TensorFlow or Core ML), a graph; take the file of torch's that it was made of"
    if _MSGPACK.match(head):
        return "MessagePack (JAX, Flax); export its arrays with safetensors.flax.save_file"
    return _text(head)


def archive_kind(names: Collection[str]) -> str | None:
    """What an archive with records of these names is, that torch.save did not write. None where it did or may have."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return (
            "a TorchScript archive (torch.jit.save), a program with weights in it; save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), ...)"
        )
    if "archive_format" in inner or "archive_format" in names or any(name.startswith("models/") for name in inner):
        return (
            "a program of torch.export's (.pt2), a graph with weights in it; save its weights alone: "
            "torch.save(torch.export.load(FILE).state_dict, ...)"
        )
    if "data.pkl" in inner:
        return None
    if "serialized_exported_program.json" in names:
        return "a program of an older torch.export; export it again, or save module.state_dict()"
    if "schema.json" in names:
        return "an estimator that skops saved, which has no weights of torch's"
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of numpy's (.npz); save a dict of tensors: torch.save({'weight': tensor}, ...)"
    if {"model.weights.h5", "config.json"} & set(names):
        return "a Keras model (.keras); load it with Keras and save its arrays with safetensors"
    if "[Content_Types].xml" in names:
        return "an Office document, no weights"
    return "an archive, but none that torch.save wrote: it has no data.pkl"


def _text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page (HTML), most likely of a failed download; download the file itself"
    if len(head) < 16 or not _TEXT.fullmatch(head):
        return None
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return None
    return f"text (it begins: {head[:40].decode(errors='replace')!r}), no weights"
