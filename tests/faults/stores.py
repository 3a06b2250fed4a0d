"""Stores with the manners of others, over a real one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.core.model import MultipartUpload, Part, StoredObject
from gateway.core.ports import Storage
from gateway.errors import NoSuchUpload


class ForgetfulStorage:
    """Answers a repeated Complete like MinIO: NoSuchUpload, and no conditional writes (minio#13318).

    SeaweedFS and AWS give the first answer again, which hides a gateway that believes NoSuchUpload.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._completed: set[str] = set()
        self.limits = replace(inner.limits, conditional_complete=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def complete(
        self, upload: MultipartUpload, parts: Sequence[Part], **options: Any
    ) -> StoredObject:
        """Forward the first one that succeeds, and know nothing of the upload after that."""
        if upload.upload_id in self._completed:
            raise NoSuchUpload("The upload is unknown.")
        stored = await self._inner.complete(upload, parts, **options)
        self._completed.add(upload.upload_id)
        return stored
