"""Sample values for tests of the core, importable as `samples`."""

import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.model import MultipartUpload, State, UploadSession

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def make_session(**changes: Any) -> UploadSession:
    """Return an open session of ten bytes, with the given fields changed."""
    session = UploadSession(
        session_id="0123456789abcdef" * 2,
        owner="somebody",
        state=State.OPEN,
        version=3,
        filename="film.mp4",
        content_type="video/mp4",
        size=10,
        part_size=10,
        checksum_algorithm="crc64nvme",
        upload=MultipartUpload("bucket", "key", "upload"),
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + timedelta(days=7),
    )
    return replace(session, **changes)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
"""A picture of one pixel."""


def mrc_header(
    *,
    size: tuple[int, int, int] = (4, 3, 2),
    mode: int = 2,
    nsymbt: int = 0,
    order: str = "<",
    stamp: bytes | None = None,
    name: bytes = b"MAP ",
) -> bytes:
    """Return the 1,024 bytes before the voxels of an MRC file, as MRC2014 has them."""
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, *size, mode)
    struct.pack_into(f"{order}i", header, 92, nsymbt)
    header[208:212] = name
    header[212:216] = (
        stamp if stamp is not None else {"<": b"DD", ">": b"\x11\x11"}[order] + bytes(2)
    )
    return bytes(header)
