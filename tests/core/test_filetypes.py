"""Every file type that is known, told from its first bytes."""

import bz2
import gzip
import io
import lzma
import sqlite3
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import PNG, mrc_header

from gateway.core.content.filetypes import (
    BY_EXTENSION,
    FILE_TYPES,
    FileType,
    media_types_of,
    recognised,
    types_declared,
)

BOXES = b"\0\0\0\x18ftyp%s\0\0\2\0%smiaf"
OLE = bytes.fromhex("d0cf11e0a1b11ae1")
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
HDF5 = b"\x89HDF\r\n\x1a\n"


def zipped(name: str = "a") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, "b")
    return made.getvalue()


def tarred(form: int = tarfile.USTAR_FORMAT, name: str = "a") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return made.getvalue()


def old_tar() -> bytes:
    """Return an archive as the first tars wrote it: without "ustar", its checksum right."""
    block = bytearray(tarred()[:512])
    block[257:512] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def sounded() -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0")
    return made.getvalue()


def film(brand: bytes, other: bytes = b"isom") -> bytes:
    return BOXES % (brand, other) + bytes(40)


def ebml(doctype: bytes) -> bytes:
    body = b"\x42\x86\x81\x01\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    return b"\x1a\x45\xdf\xa3\x01" + len(body).to_bytes(7) + body


SAMPLES: dict[str, list[bytes]] = {
    "mrc": [mrc_header(), mrc_header(order=">")],
    "dm3": [struct.pack(">3i", 3, 999, 1), struct.pack(">iqi", 4, 999, 1)],
    "eer": [b"II+\0\x08\0\0\0"],
    "czi": [b"ZISRAWFILE\0\0"],
    "dcm": [bytes(128) + b"DICM"],
    "nii": [
        struct.pack("<i", 348) + bytes(340) + b"n+1\0",
        struct.pack(">i", 348) + bytes(340) + b"ni1\0",
        struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n",
    ],
    "fits": [b"SIMPLE  =                    T".ljust(80)],
    "h5": [HDF5 + bytes(40), bytes(512) + HDF5, bytes(2048) + HDF5],
    "nc": [b"CDF\x01" + bytes(20), b"CDF\x05" + bytes(20), HDF5],
    "mat": [b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128)],
    "npy": [b"\x93NUMPY\x01\0v\0"],
    "parquet": [b"PAR1\x15\x04", b"PARE"],
    "avro": [b"Obj\x01\x04"],
    "orc": [b"ORC\x08"],
    "arrow": [b"ARROW1\0\0", b"FEA1"],
    "las": [b"LASF\0\0"],
    "pdf": [b"%PDF-1.7\n", b"\xef\xbb\xbf junk before it\n" * 30 + b"%PDF-1.4"],
    "ps": [b"%!PS-Adobe-3.0", bytes.fromhex("c5d0d3c6")],
    "rtf": [b"{\\rtf1\\ansi"],
    "doc": [OLE],
    "xls": [OLE],
    "ppt": [OLE],
    "docx": [zipped("[Content_Types].xml")],
    "xlsx": [zipped("[Content_Types].xml")],
    "pptx": [zipped("[Content_Types].xml")],
    "odt": [zipped("mimetype")],
    "ods": [zipped("mimetype")],
    "odp": [zipped("mimetype")],
    "epub": [zipped("mimetype")],
    "txt": [b"", "Grüße\n".encode(), "Grüße".encode("utf-16"), "a".encode("utf-32")],
    "csv": [b"a,b\n1,2\n", "é;1".encode("latin-1")],
    "tsv": [b"a\tb\n"],
    "json": [b"{}"],
    "xml": [b"<?xml version='1.0'?><a/>"],
    "html": [b"<!doctype html>"],
    "md": [b"# A"],
    "png": [PNG],
    "jpg": [b"\xff\xd8\xff\xe0\0\x10JFIF\0"],
    "gif": [b"GIF87a", b"GIF89a\1\0"],
    "webp": [b"RIFF\x24\0\0\0WEBPVP8 "],
    "tif": [b"II*\0\x08\0", b"MM\0*\0\0", b"II+\0\x08\0\0\0", b"MM\0+\0\x08"],
    "avif": [film(b"avif"), film(b"mif1", b"avif")],
    "heic": [film(b"heic"), film(b"mif1", b"heic")],
    "bmp": [b"BM\x46\0\0\0"],
    "jp2": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x2f"],
    "psd": [b"8BPS\0\1"],
    "exr": [b"v/1\x01\2\0\0\0"],
    "svg": [b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    "mp4": [film(b"isom"), film(b"mp42"), film(b"avc1"), film(b"M4V ")],
    "mov": [film(b"qt  "), b"\0\0\0\x08wide\0\0\0\0mdat", b"\0\0\x10\0moov"],
    "3gp": [film(b"3gp4")],
    "webm": [ebml(b"webm")],
    "mkv": [ebml(b"matroska"), ebml(b"webm"), b"\x1a\x45\xdf\xa3\x80"],
    "avi": [b"RIFF\0\0\0\0AVI LIST"],
    "mpg": [b"\0\0\1\xba\x44", b"\0\0\1\xb3\x16"],
    "m2ts": [b"\0\0\0\0".join([b"", *[b"\x47" + bytes(187)] * 3]), (b"\x47" + bytes(187)) * 3],
    "wmv": [ASF],
    "flv": [b"FLV\x01\x05"],
    "mp3": [b"ID3\x04\0", b"\xff\xfb\x90\x64", b"\xff\xf3\x48\xc4"],
    "aac": [b"\xff\xf1\x50\x80", b"\xff\xf9\x50\x80", b"ADIF"],
    "m4a": [film(b"M4A ")],
    "wav": [sounded(), b"RF64\xff\xff\xff\xffWAVEds64"],
    "flac": [b"fLaC\0\0\0\x22", b"ID3\x03"],
    "ogg": [b"OggS\0\2"],
    "aif": [b"FORM\0\0\0\x36AIFFCOMM", b"FORM\0\0\0\x36AIFCFVER"],
    "mid": [b"MThd\0\0\0\6"],
    "zip": [zipped(), b"PK\x05\x06" + bytes(18)],
    "jar": [zipped("META-INF/MANIFEST.MF")],
    "npz": [zipped("arr_0.npy")],
    "gz": [gzip.compress(b"a"), gzip.compress(b"")],
    "bz2": [bz2.compress(b"a"), bz2.compress(b"", 1)],
    "xz": [lzma.compress(b"a")],
    "zst": [b"\x28\xb5\x2f\xfd\x20", b"\x50\x2a\x4d\x18", b"\x5f\x2a\x4d\x18"],
    "lz4": [b"\x04\x22\x4d\x18\x64"],
    "7z": [b"7z\xbc\xaf\x27\x1c\0\4"],
    "rar": [b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\1\0"],
    "tar": [
        tarred(),
        tarred(tarfile.GNU_FORMAT, "ü" * 90),
        tarred(tarfile.PAX_FORMAT, "ü" * 90),
        old_tar(),
        bytes(10_240),
    ],
    "iso": [bytes(32_769) + b"CD001\1", bytes(32_769) + b"BEA01\1"],
    "qcow2": [b"QFI\xfb\0\0\0\3"],
    "vmdk": [b"KDMV\1\0\0\0", b"# Disk DescriptorFile\n"],
    "vhdx": [b"vhdxfileM\0"],
}
CASES = [(extension, sample) for extension, samples in SAMPLES.items() for sample in samples]
# Some hold the time of day, which would make other names in every process that runs tests.
NAMES = [f"{extension}-{n}" for extension, samples in SAMPLES.items() for n in range(len(samples))]

# Containers, and bytes that several types begin with: these cannot be told from each other.
ALIKE = [
    {"docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "zip", "jar", "npz"},
    {"doc", "xls", "ppt"},
    {"mp4", "mov", "3gp", "m4a"},
    {"tif", "eer"},
    {"h5", "nc"},
    {"mkv", "webm"},
    {"heic", "avif"},
    {"mp3", "aac", "flac"},
    # Sixteen blank sectors before the first word of an image, or zeros before HDF5 and DICOM, are
    # also archives of nothing.
    {"tar", "iso", "h5"},
]
TEXTS = {"txt", "csv", "tsv", "json", "xml", "html", "md", "svg"}


def flaw(kind: FileType, content: bytes) -> str | None:
    """Judge as the gateway does, by no more than the first bytes that the type asks for."""
    return kind.flaw(content[: kind.first_bytes], len(content))


@pytest.mark.parametrize(("extension", "content"), CASES, ids=NAMES)
def test_a_file_of_a_type_fits_it(extension: str, content: bytes) -> None:
    assert flaw(BY_EXTENSION[extension], content) is None


def test_a_database_of_sqlite_fits(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table a (b)")
    database.close()
    content = (tmp_path / "a.db").read_bytes()
    assert flaw(BY_EXTENSION["sqlite"], content) is None
    assert recognised(content, len(content)) is BY_EXTENSION["sqlite"]


def test_no_type_is_without_a_sample() -> None:
    sampled = {BY_EXTENSION[extension].extensions for extension in [*SAMPLES, "sqlite"]}
    assert sampled == {kind.extensions for kind in FILE_TYPES}


@pytest.mark.parametrize(("extension", "content"), CASES, ids=NAMES)
def test_a_file_of_a_type_fits_no_other(extension: str, content: bytes) -> None:
    alike = {extension}.union(*(group for group in ALIKE if extension in group))
    if b"\0" not in content[:512] or extension in TEXTS:
        alike |= TEXTS
    others = [kind for kind in FILE_TYPES if not alike & set(kind.extensions)]
    assert [kind.name for kind in others if flaw(kind, content) is None] == []


@pytest.mark.parametrize("kind", FILE_TYPES, ids=lambda kind: kind.extensions[0])
def test_one_byte_less_of_what_is_looked_at_is_never_an_error(kind: FileType) -> None:
    for content in SAMPLES.get(kind.extensions[0], [b""]):
        for length in (0, 1, 3, 7, 11, len(content) - 1):
            kind.flaw(content[: max(0, length)], length)


@given(st.sampled_from(FILE_TYPES), st.binary(max_size=1200), st.none() | st.integers(0))
@example(BY_EXTENSION["mkv"], b"\x1a\x45\xdf\xa3\x42\x82", None)
@example(BY_EXTENSION["mkv"], b"\x1a\x45\xdf\xa3\x42\x82\0\0", None)
@example(BY_EXTENSION["mkv"], b"\x1a\x45\xdf\xa3\x42\x82\1" + b"\xff" * 9, None)
@example(BY_EXTENSION["tar"], bytes(148) + b"-1234567" + bytes(400), None)
@example(BY_EXTENSION["tar"], bytes(148) + "٣".encode() * 4 + bytes(400), None)
@example(BY_EXTENSION["heic"], b"\xff\xff\xff\xffftypmif1", None)
def test_no_bytes_make_a_check_raise(kind: FileType, head: bytes, size: int | None) -> None:
    said = kind.flaw(head, size)
    assert said is None or said
    recognised(head, size)


@given(st.sampled_from(CASES), st.binary(max_size=40))
def test_no_ending_of_a_right_beginning_makes_a_check_raise(
    case: tuple[str, bytes], after: bytes
) -> None:
    for kind in FILE_TYPES:
        kind.flaw(case[1] + after, None)


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("mp4", film(b"heic")),
        ("mp4", film(b"avif")),
        ("mp4", b"\0\0\0\x08free\0\0\0\x08moov"),
        ("heic", film(b"isom")),
        ("webm", ebml(b"matroska")),
        ("mp3", b"\xff\xd8\xff\xe0"),
        ("mp3", b"\xff\xfe\x41\0"),
        ("mp3", b"\xff\xff\xff\xff"),
        ("m2ts", b"\x47" + bytes(400)),
        ("bz2", b"BZh91AY"),
        ("bz2", b"BZh01AY&SY"),
        ("gz", b"\x1f\x8b\x01"),
        ("webp", b"RIFF\x24\0\0\0WAVE"),
        ("wav", b"RIFF\x24\0\0\0WEBP"),
        ("nii", struct.pack("<i", 348) + bytes(344)),
        ("tar", tarred()[:148] + b"0000000\0" + tarred()[156:]),
        ("tar", tarred()[:511]),
        ("iso", b"CD001" * 10_000),
        ("h5", bytes(256) + HDF5),
        ("pdf", b" " * 1025 + b"%PDF-1.4"),
        ("txt", b"a\0"),
        ("csv", PNG),
        ("png", PNG[:7]),
        ("png", b""),
        ("zip", b""),
        ("tar", b""),
    ],
)
def test_what_only_resembles_a_type_does_not_fit(extension: str, content: bytes) -> None:
    assert flaw(BY_EXTENSION[extension], content)


@pytest.mark.parametrize(
    "extension",
    ["mrc", "png", "pdf", "zip", "mp4", "webm", "mkv", "avif", "heic", "tif", "h5", "gz"],
)
def test_what_gives_itself_away_is_named(extension: str) -> None:
    content = SAMPLES[extension][0]
    found = recognised(content, len(content))
    assert found is BY_EXTENSION[extension]


@pytest.mark.parametrize("content", [b"", b"plain text", bytes(2000), b"\xff\xfb\x90\x64"])
def test_what_many_files_could_begin_with_is_not_named(content: bytes) -> None:
    assert recognised(content, len(content)) is None


def test_no_extension_belongs_to_two_types() -> None:
    assert len(BY_EXTENSION) == sum(len(kind.extensions) for kind in FILE_TYPES)


@pytest.mark.parametrize("kind", FILE_TYPES, ids=lambda kind: kind.extensions[0])
def test_names_are_in_small_letters_and_media_types_are_ones(kind: FileType) -> None:
    assert kind.media_types
    assert all(ending == ending.lower().strip(".") for ending in kind.extensions)
    assert all(named.count("/") == 1 and named == named.lower() for named in kind.declared_as)
    assert set(types_declared(kind.media_types[0])) & {kind}


def test_media_types_of_others_are_those_that_python_knows() -> None:
    assert media_types_of("py") == {"text/x-python"}
    assert media_types_of("no-such-thing") == frozenset()
