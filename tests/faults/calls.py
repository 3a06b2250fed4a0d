"""What a request to an S3 store asks for: the operation, by S3's own name, and what it is about.

Path-style addresses only, which is what the tests use everywhere.
"""

import time
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from aiohttp import web

# Without these a fault with a misspelt operation would never strike, and its test never fail.
OPERATIONS = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "DeleteObject",
        "DeleteObjects",
        "GetObject",
        "HeadBucket",
        "HeadObject",
        "ListMultipartUploads",
        "ListObjectsV2",
        "ListParts",
        "Other",
        "PutObject",
        "UploadPart",
        "UploadPartCopy",
    }
)

# Parameters that are no part of a question: they sign it, or shape the answer's headers.
_IGNORED = ("x-amz-", "x-id", "response-")

_OF_UPLOAD = {
    "PUT": "UploadPart",
    "GET": "ListParts",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
}
_OF_OBJECT = {
    "PUT": "PutObject",
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "DELETE": "DeleteObject",
}
_OF_BUCKET = {"PUT": "CreateBucket", "HEAD": "HeadBucket"}


@dataclass(eq=False)
class Call:
    """One request, and what became of it.

    `store_status` is the store's answer, None where the store was not asked or did not answer;
    `status` is what the caller was told, None where the connection was cut instead. `fault` is the
    kind of the fault that struck, `began` the time (`time.monotonic`) when it came, `sent` the bytes of its body that
    went out to the store. `done` is set when nothing more will happen to it.
    """

    operation: str
    bucket: str
    key: str
    part_number: int | None = None
    upload_id: str | None = None
    began: float = 0.0
    fault: str | None = None
    sent: int = 0
    store_status: int | None = None
    status: int | None = None
    done: bool = False


def call_of(request: web.Request) -> Call:
    """Recognise a request from its method, path and query."""
    path, _, query = request.raw_path.partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    asked = {
        name: value
        for name, value in parse_qsl(query, keep_blank_values=True)
        if not name.lower().startswith(_IGNORED)
    }
    number = asked.get("partNumber", "")
    return Call(
        operation=_operation(
            request.method, key, asked, copies="x-amz-copy-source" in request.headers
        ),
        bucket=bucket,
        key=key,
        part_number=int(number) if number.isdecimal() else None,
        upload_id=asked.get("uploadId"),
        began=time.monotonic(),
    )


def _operation(method: str, key: str, asked: dict[str, str], *, copies: bool) -> str:
    if not key:
        return _operation_on_bucket(method, asked)
    if "uploadId" in asked:
        operation = _OF_UPLOAD.get(method, "Other")
        return "UploadPartCopy" if copies and method == "PUT" else operation
    if method == "POST" and asked.keys() == {"uploads"}:
        return "CreateMultipartUpload"
    if asked.keys() - {"versionId", "partNumber"}:
        return "Other"
    return "CopyObject" if copies else _OF_OBJECT.get(method, "Other")


def _operation_on_bucket(method: str, asked: dict[str, str]) -> str:
    if method == "GET" and "uploads" in asked:
        return "ListMultipartUploads"
    if method == "GET" and asked.get("list-type") == "2":
        return "ListObjectsV2"
    if method == "POST" and "delete" in asked:
        return "DeleteObjects"
    return "Other" if asked else _OF_BUCKET.get(method, "Other")
