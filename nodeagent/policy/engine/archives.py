"""What a file is by its first bytes, and the names inside archives; nothing is ever unpacked.

Theory of operation. Names stand unpacked in ZIP (in each file's own header, and in the directory at
the end), RAR 4 and 5, TAR, in 7-Zip where the header is not packed, and in gzip the one of the file
itself. They are read from the bytes of a possibly cut file, at most so many, and every loop goes
forward, so neither a bomb nor a circle can cost more than a look at each byte. An archive that is
inside another one is a name as any other. A ZIP's local headers and its directory may contradict
each other, and programs differ in which they believe: the names of both are given.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.engine.content import Kind

HEAD_BYTES: Final = 512  # that `kind_of` wants
_MAGIC: Final = (
    (b"MZ", Kind.WINDOWS_PROGRAM),
    (b"\x7fELF", Kind.LINUX_PROGRAM),
    (b"\xcf\xfa\xed\xfe", Kind.MAC_PROGRAM),
    (b"\xce\xfa\xed\xfe", Kind.MAC_PROGRAM),
    (b"\xfe\xed\xfa\xce", Kind.MAC_PROGRAM),
    (b"\xfe\xed\xfa\xcf", Kind.MAC_PROGRAM),
    (b"\xca\xfe\xba\xbe", Kind.MAC_PROGRAM),  # Java classes as well
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0", Kind.SHORTCUT),
    (b"#!/", Kind.SCRIPT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.OLE),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"PK00PK\x03\x04", Kind.ZIP),
    (b"PK\x07\x08PK\x03\x04", Kind.ZIP),
    (b"Rar!\x1a\x07", Kind.RAR),
    (b"7z\xbc\xaf\x27\x1c", Kind.SEVEN_ZIP),
    (b"\x1f\x8b\x08", Kind.GZIP),
    (b"%PDF-", Kind.PDF),
    (b"\x89PNG\r\n\x1a\n", Kind.IMAGE),
    (b"\xff\xd8\xff", Kind.IMAGE),
    (b"GIF8", Kind.IMAGE),
    (b"BM", Kind.IMAGE),
    (b"MSCF\0\0\0\0", Kind.CAB),
)
_SHORT: Final = 2  # texts may begin with these, too, but have no NUL
_HTML_STARTS: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<svg")
_TAR_MARK: Final = slice(257, 262)
_MOST_TRIED: Final = 20_000  # blocks of one archive, whether they have a name or not
_MOST_NAME_BYTES: Final = 1024
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")
_ZIP_END_BYTES: Final = 65_536 + 22  # the last record, and the longest comment in it
_TAR_NAMES: Final = (slice(345, 500), slice(0, 100))
_GZIP_EXTRA, _GZIP_NAME = 0x4, 0x8
_VINT_GOES_ON: Final = 0x80
_LEAST_NAMES: Final = 5  # a byte, one UTF-16 letter, and its end


@dataclass(frozen=True, slots=True)
class Listing:
    """The names inside one archive."""

    names: tuple[str, ...] = ()
    is_encrypted: bool = False
    is_broken: bool = False  # cut, or its list cannot be read
    is_cut: bool = False  # there are more names than were asked for


def kind_of(head: bytes) -> Kind:
    """Return what a file is that begins with these bytes."""
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (len(magic) > _SHORT or b"\0" in head[:64]):
            return kind
    if head[_TAR_MARK] == b"ustar":
        return Kind.TAR
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    return Kind.HTML if start.startswith(_HTML_STARTS) else Kind.UNKNOWN


def list_names(data: bytes, kind: Kind, most: int) -> Listing:
    """Return at most that many names of an archive of that kind; of anything else none."""
    reader = _READERS.get(kind)
    if reader is None:
        return Listing()
    found = _Names(most)
    try:
        reader(data, found)
    except (struct.error, IndexError, OverflowError):
        found.is_broken = True
    return Listing(tuple(found.names), found.is_encrypted, found.is_broken, found.is_cut)


class _Names:
    """Collects names, each once, in their order."""

    def __init__(self, most: int) -> None:
        self.names: dict[str, None] = {}
        self.is_encrypted = self.is_broken = self.is_cut = False
        self._most = most

    def add(self, raw: bytes, *, is_utf8: bool = True) -> bool:
        """Add a name; tell whether more may come."""
        raw = raw[:_MOST_NAME_BYTES].rstrip(b"\0")
        if raw and len(self.names) < self._most:
            self.names[_decode(raw, is_utf8=is_utf8)] = None
        elif raw:
            self.is_cut = True
        return not self.is_cut


def _decode(raw: bytes, *, is_utf8: bool) -> str:
    """Return a name as text; many writers put UTF-8 where the format says code page 437."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8" if is_utf8 else "cp437", "replace")


_ZIP_MARKS: Final = (  # mark; where flags and the length of the name stand; where the name begins
    (b"PK\x03\x04", 6, 26, 30),
    (b"PK\x01\x02", 8, 28, 46),
)
_ZIP_ENCRYPTED, _ZIP_UTF8 = 0x1, 0x800


def _read_zip(data: bytes, found: _Names) -> None:
    """Read every local header and every line of the directory (APPNOTE.TXT 4.3).

    They are searched for by their marks rather than followed by their offsets, so that neither a
    file that is cut nor one that lies about its offsets hides a name.
    """
    for mark, flags_at, length_at, name_at in _ZIP_MARKS:
        place = data.find(mark)
        for _ in range(_MOST_TRIED):
            if place < 0 or place + name_at > len(data):
                break
            (flags,) = _U16.unpack_from(data, place + flags_at)
            (length,) = _U16.unpack_from(data, place + length_at)
            name = data[place + name_at : place + name_at + length]
            if length and len(name) == length and b"\0" not in name:
                found.is_encrypted |= bool(flags & _ZIP_ENCRYPTED)
                if not found.add(name, is_utf8=bool(flags & _ZIP_UTF8)):
                    return
            place = data.find(mark, place + len(mark))
        else:
            found.is_cut = True
    found.is_broken = b"PK\x05\x06" not in data[-_ZIP_END_BYTES:]


_RAR4_BLOCK: Final = struct.Struct("<2xBHH")
_RAR4_FILE: Final = struct.Struct("<I15xH4x")
_RAR4_ARCHIVE, _RAR4_FILE_TYPE, _RAR4_END = 0x73, 0x74, 0x7B
_RAR4_LOCKED_HEADERS, _RAR4_LOCKED_FILE = 0x80, 0x04
_RAR4_LARGE, _RAR4_HAS_DATA = 0x100, 0x8000
_RAR5_MARK: Final = b"Rar!\x1a\x07\x01\0"


def _read_rar(data: bytes, found: _Names) -> None:
    """Follow the blocks of RAR 4 (RAR 5 looks different)."""
    if data.startswith(_RAR5_MARK):
        _read_rar5(data, found)
        return
    place = 7
    for _ in range(_MOST_TRIED):
        kind, flags, size = _RAR4_BLOCK.unpack_from(data, place)
        behind = place + _RAR4_BLOCK.size
        if kind == _RAR4_END or size < _RAR4_BLOCK.size:
            return
        packed = _U32.unpack_from(data, behind)[0] if flags & _RAR4_HAS_DATA else 0
        if kind == _RAR4_ARCHIVE and flags & _RAR4_LOCKED_HEADERS:
            found.is_encrypted = True
            return
        if kind == _RAR4_FILE_TYPE:
            found.is_encrypted |= bool(flags & _RAR4_LOCKED_FILE)
            packed, length = _RAR4_FILE.unpack_from(data, behind)
            start = behind + _RAR4_FILE.size
            if flags & _RAR4_LARGE:
                packed += _U32.unpack_from(data, start)[0] << 32
                start += 8
            if not found.add(data[start : start + length].partition(b"\0")[0]):
                return
        place += size + packed
    found.is_cut = True


_RAR5_FILE, _RAR5_ENCRYPTION, _RAR5_END = 2, 4, 5
_RAR5_HAS_EXTRA, _RAR5_HAS_DATA = 1, 2
_RAR5_HAS_TIME, _RAR5_HAS_CRC = 2, 4


def _read_rar5(data: bytes, found: _Names) -> None:
    """Follow the blocks of RAR 5 (rarlab.com/technote.htm)."""
    place = len(_RAR5_MARK)
    for _ in range(_MOST_TRIED):
        size, start = _vint(data, place + 4)
        kind, at = _vint(data, start)
        flags, at = _vint(data, at)
        extra, at = _vint(data, at) if flags & _RAR5_HAS_EXTRA else (0, at)
        packed, at = _vint(data, at) if flags & _RAR5_HAS_DATA else (0, at)
        if kind == _RAR5_ENCRYPTION:
            found.is_encrypted = True
        if kind in {_RAR5_ENCRYPTION, _RAR5_END} or size == 0:
            return
        if kind == _RAR5_FILE:
            is_locked = bool(extra) and _vint(data, _vint(data, start + size - extra)[1])[0] == 1
            found.is_encrypted |= is_locked
            if not found.add(_rar5_name(data, at)):
                return
        place = start + size + packed
    found.is_cut = True


def _rar5_name(data: bytes, at: int) -> bytes:
    """Return the name in a file's header whose own fields begin there."""
    flags, at = _vint(data, at)
    _size, at = _vint(data, at)
    _attributes, at = _vint(data, at)
    at += 4 * (bool(flags & _RAR5_HAS_TIME) + bool(flags & _RAR5_HAS_CRC))
    _method, at = _vint(data, at)
    _system, at = _vint(data, at)
    length, at = _vint(data, at)
    return data[at : at + min(length, _MOST_NAME_BYTES)]


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of RAR 5 of at most ten bytes, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < _VINT_GOES_ON:
            return number, at
    raise IndexError


_TAR_BLOCK: Final = 512
_TAR_LONG_NAME, _TAR_PAX = b"L", b"x"


def _read_tar(data: bytes, found: _Names) -> None:
    """Follow the headers of ustar, GNU and pax archives (tar(5))."""
    place, longer = 0, b""
    for _ in range(_MOST_TRIED):
        block = data[place : place + _TAR_BLOCK]
        if not block.strip(b"\0"):
            found.is_broken |= len(block) < _TAR_BLOCK
            return
        size, kind = _tar_number(block[124:136]), block[156:157]
        body = data[place + _TAR_BLOCK : place + _TAR_BLOCK + min(size, 4 * _MOST_NAME_BYTES)]
        if kind == _TAR_LONG_NAME:
            longer = body.partition(b"\0")[0]
        elif kind == _TAR_PAX:
            longer = body.partition(b" path=")[2].partition(b"\n")[0]
        else:
            prefix, name = (block[part].partition(b"\0")[0] for part in _TAR_NAMES)
            full = b"/".join(filter(None, (prefix, name)))
            if not found.add(longer or full):
                return
            longer = b""
        place += _TAR_BLOCK + -(-size // _TAR_BLOCK) * _TAR_BLOCK
    found.is_cut = True


def _tar_number(field: bytes) -> int:
    """Return an octal number, or the binary one that GNU tar writes for large files."""
    if field[0] & 0x80:
        return int.from_bytes(field[4:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else 0


def _read_gzip(data: bytes, found: _Names) -> None:
    """Read the name of the one file (RFC 1952)."""
    flags, place = data[3], 10
    if flags & _GZIP_EXTRA:
        place += 2 + _U16.unpack_from(data, place)[0]
    if flags & _GZIP_NAME:
        found.add(data[place : place + _MOST_NAME_BYTES].partition(b"\0")[0])


_SEVEN_ZIP_HEADER, _SEVEN_ZIP_NAMES = b"\x01", b"\x11"
_SEVEN_ZIP_AES: Final = b"\x06\xf1\x07\x01"
_SEVEN_ZIP_SIZES: Final = ((0x80, 0), (0xC0, 1), (0xE0, 2), (0xF0, 3))  # first byte; bytes behind


def _read_seven_zip(data: bytes, found: _Names) -> None:
    """Read the names of a header that is not packed (7zFormat.txt); most are."""
    offset, size = struct.unpack_from("<QQ", data, 12)
    header = data[32 + offset : 32 + offset + size]
    found.is_broken = len(header) < size
    found.is_encrypted = _SEVEN_ZIP_AES in header
    if header[:1] != _SEVEN_ZIP_HEADER:
        return
    place = header.find(_SEVEN_ZIP_NAMES)
    for _ in range(_MOST_TRIED):
        if place < 0:
            return
        names = _seven_zip_names(header, place + 1)
        if names and not all(found.add(name) for name in names):
            return
        place = header.find(_SEVEN_ZIP_NAMES, place + 1)


def _seven_zip_names(header: bytes, at: int) -> list[bytes]:
    """Return the names if the property that begins there can be the one with them."""
    first = header[at] if at < len(header) else 0xFF
    behind = next((count for limit, count in _SEVEN_ZIP_SIZES if first < limit), None)
    if behind is None:
        return []
    high = (first & (0x7F >> behind)) << (8 * behind)
    size = high + int.from_bytes(header[at + 1 : at + 1 + behind], "little")
    start = at + 1 + behind
    body = header[start : start + size]
    if size < _LEAST_NAMES or len(body) < size or size % 2 == 0 or body[0] or body[-2:] != b"\0\0":
        return []
    names = body[1:-2].decode("utf-16-le", "replace").split("\0")
    return [name.encode() for name in names]


def _read_cab(data: bytes, found: _Names) -> None:
    """Read the list of files of a cabinet ([MS-CAB] 2.3)."""
    (place,) = _U32.unpack_from(data, 16)
    (count,) = _U16.unpack_from(data, 28)
    for _ in range(min(count, _MOST_TRIED)):
        name = data[place + 16 : place + 16 + _MOST_NAME_BYTES].partition(b"\0")[0]
        if not name or not found.add(name):
            found.is_broken |= not name
            return
        place += 16 + len(name) + 1


_READERS: Final = {
    Kind.ZIP: _read_zip,
    Kind.RAR: _read_rar,
    Kind.SEVEN_ZIP: _read_seven_zip,
    Kind.TAR: _read_tar,
    Kind.GZIP: _read_gzip,
    Kind.CAB: _read_cab,
}
