"""Tries each operation that the gateway needs of a store, and names those that are refused.

It works on throw-away keys where uploads go and where the gateway keeps its own things. Where
aborting is refused, an unfinished upload without parts may be left. What a store can do, and how,
is not the question here: `probe` finds that out.
"""

import uuid
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any, Final

from gateway.core.model import MultipartUpload, StorageLimits
from gateway.errors import GatewayError, NotFound
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.findings import Finding, Level
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.policy import OWN, UPLOADS, Needs
from gateway.storage.s3.storage import S3Storage
from gateway.storage.s3.trial import PREFIX

_HOW: Final = "`gateway doctor --iam-policy` prints all that is needed."
# What a store says to credentials that are wrong, and to whom no action is allowed for that.
_CREDENTIALS: Final = {
    "InvalidAccessKeyId": (
        "The store does not know this access key.",
        "Compare s3_access_key_id with the keys that the store has given out.",
    ),
    "SignatureDoesNotMatch": (
        "The secret is not that of the access key.",
        "Set s3_secret_access_key again, and look for blanks; compare s3_region with the store's.",
    ),
    "ExpiredToken": (
        "The temporary credentials have expired.",
        "Give new ones, or let the credential chain fetch them: leave out s3_access_key_id.",
    ),
    "InvalidToken": (
        "The session token does not belong to the access key.",
        "Set s3_session_token again, or leave it out for keys that have none.",
    ),
}


async def check_permissions(client: S3Client, needs: Needs) -> list[Finding]:
    """Return a finding for each action that is refused, or one that says that none is.

    Empty where the store or the bucket is not there to be asked; the probe tells about that.
    """
    trying = _Trying(client, needs)
    try:
        await trying.bucket()
        for prefix in (PREFIX, UPLOADS):
            await trying.uploads(prefix)
        await trying.own_objects()
    except _WrongCredentials as wrong:
        detail, fix = _CREDENTIALS[wrong.code]
        return [Finding("credentials", Level.FAIL, detail, fix)]
    except GatewayError:
        return trying.refused
    return trying.refused or [
        Finding("permissions", Level.OK, "All that the gateway does is allowed.")
    ]


class _WrongCredentials(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Trying:
    def __init__(self, client: S3Client, needs: Needs) -> None:
        self.refused: list[Finding] = []
        self._client = client
        self._needs = needs
        self._objects = S3ObjectStore(client)

    async def bucket(self) -> None:
        name = self._needs.bucket
        await self._try(
            "s3:ListBucket",
            "",
            self._client.call("list_objects_v2", Bucket=name, Prefix=OWN, MaxKeys=1),
        )
        await self._try(
            "s3:ListBucketMultipartUploads",
            "",
            self._client.call("list_multipart_uploads", Bucket=name, Prefix=OWN, MaxUploads=1),
        )

    async def uploads(self, prefix: str) -> None:
        bucket, key = self._needs.bucket, f"{prefix}doctor-{uuid.uuid4().hex}"
        resource = f"/{OWN if prefix == PREFIX else prefix}*"
        # The answer for a key that is not there depends on the right to read it.
        await self._try("s3:GetObject", resource, self._objects.head(bucket, key))
        create = self._client.call("create_multipart_upload", Bucket=bucket, Key=key)
        created = await self._try("s3:PutObject", resource, create)
        if created is None:
            return
        upload = MultipartUpload(bucket, key, created["UploadId"])
        await self._try("s3:ListMultipartUploadParts", resource, self._parts(upload))
        await self._try(
            "s3:AbortMultipartUpload",
            resource,
            self._client.call(
                "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.upload_id
            ),
        )

    async def own_objects(self) -> None:
        if self.refused:
            # What cannot be made need not be deleted.
            return
        key = f"{PREFIX}doctor-{uuid.uuid4().hex}"
        await self._objects.put(self._needs.bucket, key, b"x", content_type="text/plain")
        await self._try(
            "s3:DeleteObject",
            f"/{PREFIX}*",
            self._client.call("delete_object", Bucket=self._needs.bucket, Key=key),
        )

    async def _parts(self, upload: MultipartUpload) -> bool:
        storage = S3Storage(self._client, limits=StorageLimits())
        async with aclosing(storage.list_parts(upload)) as parts:
            async for _ in parts:
                pass
        return True

    async def _try(self, action: str, resource: str, call: Awaitable[Any]) -> Any:
        """Return what the call returns, or None where it is refused, which is noted."""
        try:
            return await call
        except NotFound as error:
            if error.code == "bucket_not_found":
                raise
            return None
        except GatewayError as error:
            if error.code != "storage_denied":
                raise
            code = str(error.details.get("store_code", ""))
            if code in _CREDENTIALS:
                raise _WrongCredentials(code) from error
            arn = self._needs.arn + resource
            self.refused.append(
                Finding(
                    action,
                    Level.FAIL,
                    f"Refused on {arn}.",
                    f"Allow it to the access key. {_HOW}",
                )
            )
            return None
