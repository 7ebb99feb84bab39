"""The names inside archives: made by this system's tools where it has them, else by hand."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine.archives import HEAD_BYTES, kind_of, list_names
from nodeagent.policy.engine.content import Kind
from tests.policy.corpus.building import PDF, PNG, zipped

NAMES = ("a.exe", "folder/b.js", "Grüße.txt")


def tarred(*names: str, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a TAR with files of these names."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    return written.getvalue()


def rar4(*names: bytes, archive_flags: int = 0, file_flags: int = 0x8000) -> bytes:
    """Return a RAR 4 archive of stored files (technote of RAR 4)."""
    data = b"Rar!\x1a\x07\0" + struct.pack("<HBHH6x", 0, 0x73, archive_flags, 13)
    for name in names:
        large = struct.pack("<II", 0, 0) if file_flags & 0x100 else b""
        fields = struct.pack("<IIBIIBBHI", 5, 5, 3, 0, 0, 29, 0x30, len(name), 0x20) + large + name
        data += struct.pack("<HBHH", 0, 0x74, file_flags, 7 + len(fields)) + fields + b"12345"
    return data + struct.pack("<HBHH", 0, 0x7B, 0x4000, 7)


def vint(number: int) -> bytes:
    """Return a number as RAR 5 writes it."""
    data = bytearray()
    while number > 0x7F:
        data.append(0x80 | number & 0x7F)
        number >>= 7
    data.append(number)
    return bytes(data)


def rar5_block(kind: int, fields: bytes, data: bytes = b"", extra: bytes = b"") -> bytes:
    """Return one block of RAR 5."""
    flags = (1 if extra else 0) | (2 if data else 0)
    head = vint(kind) + vint(flags)
    head += (vint(len(extra)) if extra else b"") + (vint(len(data)) if data else b"")
    head += fields + extra
    return bytes(4) + vint(len(head)) + head + data


def rar5(*names: bytes, is_locked: bool = False) -> bytes:
    """Return a RAR 5 archive of stored files."""
    data = b"Rar!\x1a\x07\x01\0" + rar5_block(1, vint(0))
    for name in names:
        fields = (
            vint(4) + vint(5) + vint(0x20) + bytes(4) + vint(0) + vint(1) + vint(len(name)) + name
        )
        record = vint(1) + vint(0) + b"x" * 30
        extra = vint(len(record)) + record if is_locked else b""
        data += rar5_block(2, fields, b"12345", extra)
    return data + rar5_block(5, vint(0))


def seven_zip(*names: str, is_packed: bool = False, is_locked: bool = False) -> bytes:
    """Return a 7-Zip archive whose header is (or is not) packed."""
    listed = b"\0" + b"".join(name.encode("utf-16-le") + b"\0\0" for name in names)
    size = (
        bytes([len(listed)])
        if len(listed) < 0x80
        else bytes([0x80 | len(listed) >> 8, len(listed) & 0xFF])
    )
    header = b"\x01\x05" + bytes([len(names)]) + b"\x11" + size + listed + b"\0\0"
    if is_packed:
        header = b"\x17\x06\0\x01\x09\x10\0\x07\x0b" + (
            b"\x24\x06\xf1\x07\x01" if is_locked else b""
        )
    data = b"12345"
    start = struct.pack("<QQI", len(data), len(header), 0)
    return b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + start + data + header


def cabinet(*names: bytes) -> bytes:
    """Return the head of a cabinet and its list of files."""
    files = b"".join(struct.pack("<IIHHHH", 5, 0, 0, 0, 0, 0) + name + b"\0" for name in names)
    head = struct.pack("<4sIIIIIBBHH", b"MSCF", 0, 0, 0, 36, 0, 3, 1, 1, len(names))
    return head.ljust(36, b"\0") + files


ARCHIVES = {
    Kind.ZIP: zipped(*NAMES),
    Kind.TAR: tarred(*NAMES),
    Kind.RAR: rar5(*(name.encode() for name in NAMES)),
    Kind.SEVEN_ZIP: seven_zip(*NAMES),
    Kind.CAB: cabinet(*(name.encode() for name in NAMES)),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_the_names_in_an_archive_are_told_in_their_order(kind: Kind):
    """The names in an archive are told in their order."""
    data = ARCHIVES[kind]
    assert kind_of(data[:HEAD_BYTES]) is kind
    listing = list_names(data, kind, 100)
    assert listing.names == NAMES
    assert not listing.is_encrypted
    assert (listing.is_cut, listing.is_broken) == (False, False)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_at_most_so_many_names_are_told(kind: Kind):
    """At most so many names are told."""
    listing = list_names(ARCHIVES[kind], kind, 2)
    assert listing.names == NAMES[:2]
    assert listing.is_cut


@pytest.mark.parametrize("kind", [Kind.ZIP, Kind.TAR, Kind.RAR, Kind.CAB])
def test_an_archive_may_be_cut_anywhere(kind: Kind):
    """An archive may be cut anywhere."""
    data = ARCHIVES[kind]
    for length in range(len(data)):
        names = list_names(data[:length], kind, 100).names
        assert len(names) <= len(NAMES)
        if names:
            assert NAMES[: len(names) - 1] == names[:-1]
    assert list_names(data[: len(data) // 2], kind, 100).names


def test_a_zip_that_was_cut_is_broken():
    """A ZIP that was cut is broken."""
    data = zipped("a.exe", "b.txt")
    listing = list_names(data[:60], Kind.ZIP, 100)
    assert listing.names == ("a.exe",)
    assert listing.is_broken


def test_a_zip_tells_the_names_of_its_files_and_of_its_directory():
    """Programs differ in which of the two they believe."""
    data = bytearray(zipped("harmless.txt"))
    place = data.rfind(b"harmless.txt")
    data[place : place + 12] = b"harmful1.exe"
    assert list_names(bytes(data), Kind.ZIP, 9).names == ("harmless.txt", "harmful1.exe")


def test_a_zip_inside_a_zip_is_named_and_not_opened():
    """A ZIP inside a ZIP is named and not opened."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", zipped("a.exe"))
    assert list_names(written.getvalue(), Kind.ZIP, 9).names == ("inner.zip",)


def test_old_names_in_a_zip_are_read_by_their_code_page():
    """Old names in a ZIP are read by their code page."""
    data = bytearray(zipped("gru.txt"))
    for at in (data.find(b"gru"), data.rfind(b"gru")):
        data[at : at + 3] = b"gr\x81"
    assert list_names(bytes(data), Kind.ZIP, 9).names == ("grü.txt",)


def test_an_encrypted_zip_is_known():
    """An encrypted ZIP is known."""
    listing = list_names(zipped("a.exe", is_encrypted=True), Kind.ZIP, 9)
    assert (listing.names, listing.is_encrypted) == (("a.exe",), True)


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's zip(1)")
def test_an_encrypted_zip_of_info_zip_is_known(tmp_path: Path):
    """An encrypted ZIP of info ZIP is known."""
    (tmp_path / "a.exe").write_text("x")
    command = ["zip", "-q", "-P", "secret", "x.zip", "a.exe"]
    subprocess.run(command, cwd=tmp_path, check=True)
    listing = list_names((tmp_path / "x.zip").read_bytes(), Kind.ZIP, 9)
    assert (listing.names, listing.is_encrypted) == (("a.exe",), True)


def test_a_zip_bomb_costs_nothing():
    """A ZIP bomb costs nothing."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", bytes(50_000_000))
    listing = list_names(written.getvalue(), Kind.ZIP, 9)
    assert listing.names == ("bomb.bin",)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_a_tar_are_whole(form: int):
    """Long names in a tar are whole."""
    name = "folder/" * 20 + "program.exe"
    listing = list_names(tarred(name, "b.txt", form=form), Kind.TAR, 9)
    assert listing.names == (name, "b.txt")


def test_the_tar_of_the_system_is_read(tmp_path: Path):
    """The tar of the system is read."""
    (tmp_path / "a.exe").write_text("x" * 2000)
    subprocess.run(["tar", "cf", "x.tar", "a.exe"], cwd=tmp_path, check=True)
    assert list_names((tmp_path / "x.tar").read_bytes(), Kind.TAR, 9).names == ("a.exe",)


@pytest.mark.parametrize("flags", [0x8000, 0x8100])
def test_names_in_rar_4_are_told(flags: int):
    """Names in RAR 4 are told."""
    data = rar4(b"a.exe", b"gr\xc3\xbc.txt", file_flags=flags)
    assert kind_of(data) is Kind.RAR
    assert list_names(data, Kind.RAR, 9).names == ("a.exe", "grü.txt")


def test_the_plain_half_of_a_unicode_name_in_rar_4_is_taken():
    """The plain half of a unicode name in RAR 4 is taken."""
    assert list_names(rar4(b"a.exe\0\x01encoded"), Kind.RAR, 9).names == ("a.exe",)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (rar4(b"a.exe", file_flags=0x8004), ("a.exe",)),
        (rar4(b"a.exe", archive_flags=0x80), ()),
        (rar5(b"a.exe", is_locked=True), ("a.exe",)),
        (b"Rar!\x1a\x07\x01\0" + rar5_block(4, vint(0) + vint(1)), ()),
    ],
)
def test_an_encrypted_rar_is_known(data: bytes, names: tuple[str, ...]):
    """An encrypted RAR is known."""
    listing = list_names(data, Kind.RAR, 9)
    assert (listing.names, listing.is_encrypted) == (names, True)


def test_a_packed_header_of_7_zip_hides_the_names():
    """A packed header of 7 ZIP hides the names."""
    listing = list_names(seven_zip("a.exe", is_packed=True), Kind.SEVEN_ZIP, 9)
    assert (listing.names, listing.is_encrypted, listing.is_broken) == ((), False, False)


def test_an_encrypted_header_of_7_zip_is_known():
    """An encrypted header of 7 ZIP is known."""
    data = seven_zip("a.exe", is_packed=True, is_locked=True)
    assert list_names(data, Kind.SEVEN_ZIP, 9).is_encrypted


def test_many_names_in_7_zip_are_told():
    """Many names in 7 ZIP are told."""
    names = tuple(f"folder/file-{number}.txt" for number in range(60))
    assert list_names(seven_zip(*names), Kind.SEVEN_ZIP, 99).names == names


def test_gzip_tells_the_name_of_its_file():
    """GZIP tells the name of its file."""
    written = io.BytesIO()
    with gzip.GzipFile("invoice.exe", "wb", fileobj=written) as packed:
        packed.write(b"x" * 100)
    data = written.getvalue()
    assert kind_of(data) is Kind.GZIP
    assert list_names(data, Kind.GZIP, 9).names == ("invoice.exe",)
    assert list_names(gzip.compress(b"x"), Kind.GZIP, 9).names == ()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"MZ\x90\0\3\0\0\0", Kind.WINDOWS_PROGRAM),
        (b"MZ is how this text begins", Kind.UNKNOWN),
        (b"\x7fELF\x02\x01", Kind.LINUX_PROGRAM),
        (b"\xcf\xfa\xed\xfe\x07", Kind.MAC_PROGRAM),
        (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", Kind.SHORTCUT),
        (b"#!/bin/sh\n", Kind.SCRIPT),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.OLE),
        (PDF, Kind.PDF),
        (PNG, Kind.IMAGE),
        (b"BM\x46\0\0\0\0\0", Kind.IMAGE),
        (b"BMW is a car", Kind.UNKNOWN),
        (b"\xef\xbb\xbf <!DOCTYPE HTML>", Kind.HTML),
        (b"<svg xmlns='x'>", Kind.HTML),
        (b"PK\x05\x06" + bytes(18), Kind.ZIP),
        (b"plain text", Kind.UNKNOWN),
        (b"", Kind.UNKNOWN),
    ],
)
def test_a_file_is_known_by_its_first_bytes(head: bytes, kind: Kind):
    """A file is known by its first bytes."""
    assert kind_of(head) is kind


def test_what_is_no_archive_has_no_names():
    """What is no archive has no names."""
    assert list_names(PDF, Kind.PDF, 9).names == ()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_many_blocks_end_at_a_limit(kind: Kind):
    """Many blocks end at a limit."""
    piece = {
        Kind.ZIP: b"PK\3\4",
        Kind.TAR: tarred("x")[:512].replace(b"00001274", b"00000000"),
        Kind.RAR: bytes(4) + b"\x03\x09\0\0",
        Kind.SEVEN_ZIP: b"\x11\x05\0a\0\0\0",
        Kind.CAB: bytes(16) + b"x\0",
    }[kind]
    listing = list_names(ARCHIVES[kind][:64] + piece * 100_000, kind, 1000)
    assert len(listing.names) <= 1000


@given(st.sampled_from(list(ARCHIVES)), st.data())
def test_a_broken_archive_never_raises(kind: Kind, data: st.DataObject):
    """A broken archive never raises."""
    changed = bytearray(ARCHIVES[kind])
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    for name in list_names(bytes(changed), kind, 50).names:
        name.encode()


@pytest.mark.parametrize("kind", [*ARCHIVES, Kind.GZIP])
def test_random_bytes_never_raise(kind: Kind):
    """Random bytes never raise."""
    source = random.Random(4711)
    start = ARCHIVES.get(kind, gzip.compress(b"x"))[:12]
    for length in range(0, 600, 3):
        assert len(list_names(start + source.randbytes(length), kind, 5).names) <= 5
