"""Where the records of a zip archive lie, found out strictly: one directory, one place for everything, no gap.

Readers of zip files differ in what they make of an odd archive: one searches the directory from the end, another goes
by the offset that the end record names, a third by the headers before the records. A file that says different things
in these places is sound to the one that looks and something else to the one that reads. So an archive is taken only
where all of them must agree: the records lie one after another from the first byte on, then the directory, then its
end, which is the file's; and what the directory says of a record is what stands before and behind it.

Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelopt_cli.core.errors import InputError, RefusedError

MAGIC = b"PK\x03\x04"
MOST_RECORDS = 250_000
_STORED, _DEFLATED = 0, 8
_END = struct.Struct("<4s4H2LH")  # signature, disks (2), records (2), directory's size and offset, comment's length
_END64 = struct.Struct("<4sQ2H2L4Q")  # signature, own size, versions (2), disks (2), records (2), size, offset
_LOCATOR = struct.Struct("<4sLQL")  # signature, disk, offset of the 64-bit end, disks
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LATER, _UTF8 = 0x8, 0x800  # flags: sizes stand behind the record; the name is UTF-8
_CHUNK = 1 << 20
_DEFLATE_LIMIT = 1032  # to 1: the most that deflate can pack


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `stored` bytes from `start` on, which are `size` bytes once unpacked."""

    name: str
    start: int
    stored: int
    size: int
    checksum: int  # CRC32 of the unpacked bytes
    deflated: bool

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.start + self.stored


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the directory says of a record. `offset`: of the header before it."""

    raw: bytes
    flags: int
    method: int
    checksum: int
    stored: int
    size: int
    offset: int


def records(data: memoryview, what: str) -> dict[str, Record]:
    """The records of the archive in `data` by name, in the directory's order. `what` names it in errors.

    Raises InputError where it is cut off or a header is damaged, RefusedError where it could be read in two ways or
    claims to unpack to more than it can.
    """
    count, begin, end = _directory(data, what)
    entries = list(_entries(data, count, begin, end, what))
    located: dict[int, Record] = {}
    folded: set[str] = set()
    reached = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset != reached:
            raise _two_ways(what, f"a record begins at byte {entry.offset:,}, but the one before ends at {reached:,}")
        record, reached = _record(data, entry, begin, what)
        name = record.name.lower()  # torch's reader does not tell cases apart
        if name in folded:
            raise RefusedError(f"{what} holds two records of one name ({name[:200]}), so it is refused")
        folded.add(name)
        located[entry.offset] = record
    if reached != begin:
        raise _two_ways(what, f"its records end at byte {reached:,}, but its directory begins at {begin:,}")
    return {located[entry.offset].name: located[entry.offset] for entry in entries}


def content(data: memoryview, record: Record, what: str) -> bytes:
    """The record's bytes, unpacked. Raises InputError where there are more or less than it says."""
    return b"".join(unpacked(data, record, what))


def check(data: memoryview, record: Record, what: str) -> None:
    """Raise InputError where the record's bytes are not those that its checksum is of."""
    checksum = 0
    for piece in unpacked(data, record, what):
        checksum = zlib.crc32(piece, checksum)
    if checksum != record.checksum:
        raise damaged(what, record)


def unpacked(data: memoryview, record: Record, what: str) -> Iterator[bytes | memoryview]:
    """The record's bytes, unpacked, in pieces. Raises InputError where there are more or less than it says."""
    if not record.deflated:
        for at in range(record.start, record.stop, _CHUNK):
            yield data[at : min(at + _CHUNK, record.stop)]
        return
    packer, rest, left = zlib.decompressobj(-15), bytes(data[record.start : record.stop]), record.size
    try:
        while not packer.eof and rest:
            piece = packer.decompress(rest, _CHUNK)
            rest, left = packer.unconsumed_tail, left - len(piece)
            if left < 0:
                raise damaged(what, record)
            yield piece
    except zlib.error:
        raise damaged(what, record) from None
    if left or not packer.eof or packer.unused_data:
        raise damaged(what, record)


def damaged(what: str, record: Record) -> InputError:
    """The error for a record that is not what was written."""
    return InputError(f"{what} is damaged: its record {record.name[:200]} is not what its checksum says; copy it again")


def without_checksums(archive: Mapping[str, Record]) -> bool:
    """Whether the archive was written without checksums, as torch.serialization.set_crc32_options(False) does."""
    return not any(record.checksum for record in archive.values())


def _directory(data: memoryview, what: str) -> tuple[int, int, int]:
    """(records, begin, end) of the directory."""
    size = len(data)
    last = size - _END.size
    if last < 0 or bytes(data[last : last + 4]) != b"PK\x05\x06":
        raise InputError(
            f"{what} is truncated or damaged: it is an archive, but does not end as one; copy or download it again"
        )
    _, disk, first_disk, here, count, length, begin, comment = _END.unpack_from(data, last)
    end = last
    at = last - _LOCATOR.size
    if at >= 0 and bytes(data[at : at + 4]) == b"PK\x06\x07":
        end = at - _END64.size
        _, _, claimed, _ = _LOCATOR.unpack_from(data, at)
        if claimed != end or end < 0 or bytes(data[end : end + 4]) != b"PK\x06\x06":
            raise _two_ways(what, "the end of its directory does not lie where it says")
        _, _, _, _, disk64, first64, here64, count64, length64, begin64 = _END64.unpack_from(data, end)
        pairs = (
            (disk, disk64, 0xFFFF),
            (first_disk, first64, 0xFFFF),
            (here, here64, 0xFFFF),
            (count, count64, 0xFFFF),
        )
        for short, long, most in (*pairs, (length, length64, 0xFFFFFFFF), (begin, begin64, 0xFFFFFFFF)):
            if short not in (long, most):
                raise _two_ways(what, f"its ends disagree ({short:,} and {long:,})")
        disk, first_disk, here, count, length, begin = disk64, first64, here64, count64, length64, begin64
    if disk or first_disk or here != count or comment:
        raise _two_ways(what, "it has parts elsewhere, or something after its end")
    if begin + length != end:
        raise _two_ways(what, f"its directory should end at byte {begin + length:,}, but does at {end:,}")
    if count > MOST_RECORDS:
        raise RefusedError(f"{what} holds {count:,} records, but may hold {MOST_RECORDS:,}, so it is refused")
    return count, begin, end


def _entries(data: memoryview, count: int, begin: int, end: int, what: str) -> Iterator[_Entry]:
    at = begin
    for _ in range(count):
        if at + _ENTRY.size > end or bytes(data[at : at + 4]) != b"PK\x01\x02":
            raise InputError(f"{what} is damaged: its directory of {count:,} records is cut off; copy it again")
        fields = _ENTRY.unpack_from(data, at)
        flags, method, checksum, stored, size = fields[3], fields[4], *fields[7:10]
        name, extra, comment, offset = *fields[10:13], fields[16]
        at += _ENTRY.size
        raw, more = bytes(data[at : at + name]), bytes(data[at + name : at + name + extra])
        at += name + extra + comment
        size, stored, offset = _long(more, (size, stored, offset), what)
        if fields[13] not in (0, 0xFFFF):
            raise _two_ways(what, "it has parts elsewhere")
        yield _Entry(raw, flags, method, checksum, stored, size, offset)
    if at != end:
        raise _two_ways(what, f"its directory holds more than the {count:,} records that its end counts")


def _record(data: memoryview, entry: _Entry, most: int, what: str) -> tuple[Record, int]:
    """The record, and where the next one begins."""
    name = _name(entry, what)
    if entry.offset + _LOCAL.size > most or bytes(data[entry.offset : entry.offset + 4]) != MAGIC:
        raise InputError(f"{what} is damaged: there is no record {name[:200]} where its directory says; copy it again")
    _, _, flags, method, _, _, checksum, stored, size, length, extra = _LOCAL.unpack_from(data, entry.offset)
    start = entry.offset + _LOCAL.size + length + extra
    raw = bytes(data[entry.offset + _LOCAL.size : start - extra])
    if 0xFFFFFFFF in (size, stored):
        size, stored = _long(bytes(data[start - extra : start]), (size, stored), what)
    stop = start + entry.stored
    if stop > most:
        raise RefusedError(f"{what} asks for memory that it does not hold ({name[:200]} ends behind it): refused")
    before = (checksum, stored, size)
    own = (entry.checksum, entry.stored, entry.size)
    after, unknown = stop, (0, 0, 0)
    if entry.flags & _LATER:
        after, behind = _behind(data, stop, own)
        if not behind or before not in (own, unknown):
            raise _disagree(what, name)
    elif before != own:
        raise _disagree(what, name)
    if (raw, flags, method) != (entry.raw, entry.flags, entry.method):
        raise _disagree(what, name)
    if flags & 0x2041 or method not in (_STORED, _DEFLATED):
        raise InputError(
            f"{what} is damaged, or no archive that torch or numpy wrote: {name[:200]} is encrypted or packed"
        )
    deflated = method == _DEFLATED
    if (not deflated and entry.stored != entry.size) or entry.size > _DEFLATE_LIMIT * entry.stored + 64:
        raise RefusedError(
            f"{what} asks for memory that it does not hold ({name[:200]} should unpack to {entry.size:,} bytes from "
            f"{entry.stored:,}), so it is refused"
        )
    return Record(name, start, entry.stored, entry.size, entry.checksum, deflated), after


def _behind(data: memoryview, stop: int, own: tuple[int, int, int]) -> tuple[int, bool]:
    """Where what stands behind a record ends, and whether it says the same: checksum and sizes, in 32 or 64 bits."""
    for sign in (b"PK\x07\x08", b""):
        for form in ("<3L", "<LQQ"):
            wanted = sign + struct.pack(form, *own) if form == "<LQQ" or max(own) <= 0xFFFFFFFF else None
            if wanted is not None and bytes(data[stop : stop + len(wanted)]) == wanted:
                return stop + len(wanted), True
    return stop, False


def _long(extra: bytes, values: tuple[int, ...], what: str) -> tuple[int, ...]:
    """The values, those of 0xFFFFFFFF replaced by the 64-bit ones in the extra field 1, in this order."""
    if 0xFFFFFFFF not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1 and at + 4 + length <= len(extra):
            longer = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            try:
                return tuple(next(longer) if value == 0xFFFFFFFF else value for value in values)
            except StopIteration:
                break
        at += 4 + length
    raise InputError(f"{what} is damaged: a record of more than 4 GiB has no 64-bit size; copy it again")


def _name(entry: _Entry, what: str) -> str:
    try:
        name = entry.raw.decode("utf-8" if entry.flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise InputError(f"{what} is damaged: a record's name is no text; copy it again") from None
    if not name or "\0" in name:
        raise RefusedError(f"{what} holds a record without a name, or with a NUL in it, so it is refused")
    return name


def _disagree(what: str, name: str) -> InputError:
    return InputError(f"{what} is damaged: its directory and its record {name[:200]} disagree; copy it again")


def _two_ways(what: str, why: str) -> RefusedError:
    return RefusedError(f"{what} is an archive that could be read in two ways ({why}), so it is refused")
