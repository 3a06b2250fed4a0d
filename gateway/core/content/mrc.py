"""Whether a file begins with the header of MRC2014, the format of maps in electron microscopy.

The header is 1,024 bytes: 56 words of four bytes, then labels. Words are counted from 1 in
"MRC2014: Extensions to the MRC format header for electron cryo-microscopy and tomography" (Cheng
et al., Journal of Structural Biology 192, 2015; https://www.ccpem.ac.uk/mrc-format/mrc2014/), and
by their offset in bytes here. Voxels are not looked at, and it is not promised that all are there.

Files from before the stamp `MAP ` (CCP4, about 2000) have nothing that tells them from any other
file whose first numbers are small. They are refused; rewriting the header (IMOD's `newstack`,
`mrcfile` of CCP-EM) makes them MRC2014.
"""

import struct
from typing import Final

HEADER_BYTES: Final = 1024

_MAP: Final = slice(208, 212)
_STAMP: Final = slice(212, 216)
_NSYMBT: Final = 92

# Complex, packed and half-precision voxels too; 5 and 7 to 11 mean nothing.
_MODES: Final = frozenset({0, 1, 2, 3, 4, 6, 12, 101})

# The first byte of the machine stamp tells how real numbers are stored, in two nibbles of which 1
# is big-endian IEEE and 4 little-endian. What follows varies: CCP4 writes 44 41, IMOD 44 20.
_ORDERS: Final = {0x44: ("<",), 0x11: (">",)}
_NO_STAMP: Final = bytes(4)


def mrc_flaw(head: bytes, size: int | None) -> str | None:
    """Return what makes these first bytes no MRC2014 header, as half a sentence, or None.

    `head` has 1,024 bytes, or else is all of the file; `size` is that of the file, where known.
    """
    if len(head) < HEADER_BYTES:
        return f"it is shorter than the header of {HEADER_BYTES} bytes"
    if head[_MAP] != b"MAP ":
        return "bytes 208 to 211 are not the stamp MAP, which older files lack as well"
    stamp = head[_STAMP]
    # Some programs leave the stamp empty: then either order will do in which the numbers are legal.
    orders = ("<", ">") if stamp == _NO_STAMP else _ORDERS.get(stamp[0])
    if orders is None:
        return "its machine stamp at byte 212 is not one"
    flaws = [_number_flaw(head, order, size) for order in orders]
    return None if None in flaws else flaws[0]


def _number_flaw(head: bytes, order: str, size: int | None) -> str | None:
    nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
    (nsymbt,) = struct.unpack_from(f"{order}i", head, _NSYMBT)
    if min(nx, ny, nz) < 1:
        return "its dimensions NX, NY and NZ are not all positive"
    if mode not in _MODES:
        return "its MODE is not one of the format's"
    if nsymbt < 0 or (size is not None and HEADER_BYTES + nsymbt > size):
        return "its extended header (NSYMBT) does not fit into the file"
    return None
