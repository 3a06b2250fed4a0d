"""How files of a type begin: checks that the table of file types is made of.

A check takes the first bytes of a file, and the file's size where it is known, and returns what is
wrong with them as half a sentence, or None. It never raises, whatever the bytes. It proves no more
than it looks at: a file may begin as a PDF and be none.

Offsets and values are those of the formats' own specifications, named where they are not obvious.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

Check: TypeAlias = Callable[[bytes, int | None], str | None]

_OTHERWISE: Final = "it does not begin as one does"
_TAR_BLOCK: Final = 512
_CHECKSUM: Final = slice(148, 156)
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
# HEIF (ISO/IEC 23008-12, annex B), and AVIF: still pictures in the same boxes as films.
_HEIF: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_AVIF: Final = frozenset({b"avif", b"avis"})
# QuickTime files from before `ftyp` begin with one of these (QuickTime File Format, "Atoms").
_OLD_MOVIE: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_UNICODE_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def begins(*starts: bytes, at: int = 0) -> Check:
    """Make a check for one of these byte strings at an offset."""
    return _as_check(lambda head: head.startswith(starts, at))


def contains(word: bytes, *, within: int) -> Check:
    """Make a check for a word that starts within so many first bytes."""
    return _as_check(lambda head: word in head[: within + len(word) - 1])


def riff(*forms: bytes, container: tuple[bytes, ...] = (b"RIFF",)) -> Check:
    """Make a check for a container of chunks that names its form at byte 8."""
    return _as_check(lambda head: head[:4] in container and head[8:12] in forms)


def either(*checks: Check) -> Check:
    """Make a check that one of several passes."""

    def flaw(head: bytes, size: int | None) -> str | None:
        flaws = [check(head, size) for check in checks]
        return None if None in flaws else flaws[0]

    return flaw


def matroska(*doctypes: bytes) -> Check:
    """Make a check for an EBML header with one of these DocTypes (RFC 8794, section 11.2.4)."""
    return _as_check(lambda head: head[:4] == b"\x1a\x45\xdf\xa3" and _doctype(head) in doctypes)


def _as_check(fits: Callable[[bytes], bool]) -> Check:
    return lambda head, _size: None if fits(head) else _OTHERWISE


def _doctype(head: bytes) -> bytes:
    place = head.find(b"\x42\x82", 4)
    if place < 0:
        # The default of the element.
        return b"matroska"
    after = head[place + 2 : place + 12]
    if not after or not after[0]:
        return b""
    # The length comes as a number whose leading zero bits tell of how many bytes it is.
    width = 9 - after[0].bit_length()
    length = int.from_bytes(after[:width]) & ((1 << 7 * width) - 1)
    start = place + 2 + width
    return head[start : start + min(length, 16)].rstrip(b"\0")


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file (ISO/IEC 14496-12, section 4.3), or none."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))}


def _is_film(head: bytes) -> bool:
    # Pictures may name film brands as well, but not first.
    return head[4:8] == b"ftyp" and head[8:12] not in _HEIF | _AVIF


def _is_mp3_frame(head: bytes) -> bool:
    # ISO/IEC 11172-3, section 2.4.1.3: sync, a legal version, layer III, legal rates.
    return (
        len(head) > 2  # noqa: PLR2004 - the three bytes that are looked at
        and head[0] == 0xFF  # noqa: PLR2004 - the sync word
        and head[1] & 0xE6 == 0xE2  # noqa: PLR2004 - its rest, and the layer
        and (head[1] >> 3) & 3 != 1
        and head[2] >> 4 != 15  # noqa: PLR2004 - a bit rate that is reserved
        and (head[2] >> 2) & 3 != 3  # noqa: PLR2004 - the same of the sampling rate
    )


def _is_adts_frame(head: bytes) -> bool:
    # ISO/IEC 14496-3, section 1.A.2: sync, and a layer of 0.
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0  # noqa: PLR2004 - as said


def _is_transport_stream(head: bytes) -> bool:
    # Packets of 188 bytes, or of 192 with a time stamp before each (Blu-ray).
    return any(
        len(head) > first + 2 * length and all(head[first + n * length] == 0x47 for n in range(3))  # noqa: PLR2004 - sync
        for first, length in ((0, 188), (4, 192))
    )


def _is_tar(head: bytes) -> bool:
    # The checksum is in the oldest archives too, which have no "ustar" (POSIX, pax, "ustar
    # Interchange Format"): the sum of the block's bytes, its own eight taken as blanks.
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK:
        return False
    if not any(block):
        # An archive of nothing.
        return True
    digits = block[_CHECKSUM].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return False
    blank = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    # Some old programs summed up signed bytes.
    signed = sum(blank) - 256 * sum(byte > 127 for byte in blank)  # noqa: PLR2004 - a signed byte's
    return int(digits, 8) in {sum(blank), signed}


def _is_text(head: bytes) -> bool:
    return head.startswith(_UNICODE_MARKS) or b"\0" not in head


def _is_nifti(head: bytes) -> bool:
    # https://nifti.nimh.nih.gov: the header's size in either byte order, and where the magic lies.
    lengths = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 348 in lengths:  # noqa: PLR2004 - NIfTI-1
        return head[344:348] in {b"n+1\0", b"ni1\0"}
    return 540 in lengths and head[4:8] in {b"n+2\0", b"ni2\0"}  # noqa: PLR2004 - NIfTI-2


def _is_digital_micrograph(head: bytes) -> bool:
    # Version 3 or 4, the file's length in 4 or 8 bytes, and a flag for the byte order.
    version = int.from_bytes(head[:4])
    flag = {3: head[8:12], 4: head[12:16]}.get(version, b"")
    return flag in {b"\0\0\0\0", b"\0\0\0\1"}


hdf5 = _as_check(lambda head: any(head.startswith(_HDF5, at) for at in (0, 512, 1024, 2048)))
"""HDF5 File Format Specification, section II.A: at 0, or at 512 doubled behind a user block."""

heif = _as_check(lambda head: bool(_brands(head) & _HEIF))
avif = _as_check(lambda head: bool(_brands(head) & _AVIF))
film = _as_check(_is_film)
movie = _as_check(lambda head: _is_film(head) or head[4:8] in _OLD_MOVIE)
mp3 = either(begins(b"ID3"), _as_check(_is_mp3_frame))
aac = either(begins(b"ID3", b"ADIF"), _as_check(_is_adts_frame))
transport_stream = _as_check(_is_transport_stream)
tar = _as_check(_is_tar)
nifti = _as_check(_is_nifti)
digital_micrograph = _as_check(_is_digital_micrograph)


def text(head: bytes, _size: int | None) -> str | None:
    """Tell what is binary from text in any encoding: only UTF-16 and UTF-32 have zero bytes."""
    return None if _is_text(head) else "it holds zero bytes, which text does not"
