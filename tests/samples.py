"""Sample values for tests of the core, importable as `samples`."""

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
