"""What goes wrong in a store, told in the gateway's own errors: the only place that translates.

Stores answer with a code in XML; which codes exist, and what they mean, is in "Error responses"
(docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), for MinIO's and SeaweedFS's own in
their sources. Codes that are not in the table are judged by their HTTP status. No message here
repeats what the store wrote, since that may hold a signature; the store's code is in `details`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
from botocore import exceptions as botocore

from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    Internal,
    InvalidRequest,
    NoSuchObject,
    NoSuchUpload,
    NotFound,
    StorageFull,
    Unavailable,
    Uncertain,
)


class _Row(NamedTuple):
    kind: type[GatewayError]
    code: str
    message: str
    hint: str
    retryable: bool | None = None


_DENIED = _Row(
    Forbidden,
    "storage_denied",
    "The store refuses the gateway's credentials.",
    "Check the access key, its secret and its permissions on the bucket, and this machine's clock.",
)
_SKEWED = _Row(
    Unavailable,
    "clock_skewed",
    "The clocks of the gateway and of the store are too far apart.",
    "Synchronise both with NTP; S3 accepts 15 minutes of difference.",
    retryable=False,
)
_MISCONFIGURED = _Row(
    Unavailable,
    "storage_misconfigured",
    "The bucket is not at this endpoint, or not in this region.",
    "Compare region, endpoint and addressing style with those of the bucket.",
    retryable=False,
)
_UNSUPPORTED = _Row(
    Unavailable,
    "storage_unsupported",
    "The store does not offer this operation.",
    "Run `gateway doctor` to see what this store can do.",
    retryable=False,
)
_BUSY = _Row(
    Unavailable,
    "storage_unavailable",
    "The store cannot answer for now.",
    "Try again in a moment.",
)
_FULL = _Row(
    StorageFull,
    "storage_full",
    "The store has no room left.",
    "Free or add space in the store; what is uploaded so far stays.",
)
_NO_BUCKET = _Row(
    NotFound,
    "bucket_not_found",
    "The store has no such bucket.",
    "Create the bucket, or correct its name in the settings.",
)
_NO_UPLOAD = _Row(
    NoSuchUpload,
    "no_such_upload",
    "The store does not know this multipart upload.",
    "It was completed or aborted; only the object's own stamp can tell which.",
)
_NO_OBJECT = _Row(
    NoSuchObject,
    "no_such_object",
    "The store has no object under this key.",
    "It may not be there yet, or was deleted.",
)
_CHANGED = _Row(
    Conflict,
    "object_changed",
    "The object is not the one that was asked for any more.",
    "Read its description again, and start over.",
)
_PARTS_REFUSED = _Row(
    Conflict,
    "parts_refused",
    "The store refuses this list of parts.",
    "Compare the parts with those that the store lists, and send again what differs.",
)
_CHECKSUM_REFUSED = _Row(
    Conflict,
    "checksum_refused",
    "The checksum of the whole object is not that of the parts in the store.",
    "Compare the parts' checksums with the file, and send again what differs.",
)
_KEY_TAKEN = _Row(
    Conflict,
    "key_taken",
    "There is an object under this key already.",
    "Look whether it is the one that this upload made; if not, choose another key.",
)
_UNEXPECTED = _Row(
    Internal,
    "storage_unexpected",
    "The store refused a request in a way that the gateway does not know.",
    "The log has the store's own code.",
)

_NO_TLS = _Row(
    Unavailable,
    "storage_misconfigured",
    "The store's TLS certificate is not accepted.",
    "Give the store a certificate that this machine trusts.",
    retryable=False,
)
_SILENT = _Row(
    Unavailable,
    "storage_timeout",
    "The store did not answer in time.",
    "Try again in a moment; look at the network between gateway and store.",
)
_NO_CREDENTIALS = _Row(
    Unavailable,
    "storage_credentials_unavailable",
    "The credentials for the store could not be fetched.",
    "Look at the role, profile or metadata service that gives them out.",
)
_INEXPRESSIBLE = _Row(
    InvalidRequest,
    "invalid_request",
    "The store's protocol cannot carry this request.",
    "Bucket, key and metadata must be what S3 takes; metadata is ASCII.",
)
_UNANSWERED: tuple[tuple[tuple[type[Exception], ...], _Row], ...] = (
    ((botocore.CredentialRetrievalError,), _NO_CREDENTIALS),
    ((botocore.ParamValidationError,), _INEXPRESSIBLE),
    ((aiohttp.ClientSSLError, botocore.SSLError), _NO_TLS),
    ((TimeoutError, botocore.ConnectTimeoutError, botocore.ReadTimeoutError), _SILENT),
)

_CODES: dict[_Row, str] = {
    _DENIED: """
        AccessDenied AccountProblem AllAccessDisabled ExpiredToken InvalidAccessKeyId InvalidToken
        InvalidSecurity NotSignedUp SignatureDoesNotMatch Unauthorized 401 403
    """,
    # The gateway's own requests are signed when they are sent: one that is not valid yet, or no
    # more, tells of the clocks.
    _SKEWED: "RequestTimeTooSkewed RequestNotYetValid RequestNotReadyYet ExpiredPresignRequest",
    _MISCONFIGURED: """
        AuthorizationHeaderMalformed IllegalLocationConstraintException PermanentRedirect Redirect
        TemporaryRedirect 301 307 308
    """,
    _UNSUPPORTED: "MethodNotAllowed NotImplemented 405 501",
    _BUSY: """
        BandwidthLimitExceeded Busy ConditionalRequestConflict InternalError OperationAborted
        RequestTimeout ServerBusy ServiceUnavailable SlowDown Throttling ThrottlingException
        XMinioServerNotInitialized 408 425 429
    """,
    _FULL: """
        InsufficientStorage NoSpaceLeft QuotaExceeded XMinioAdminBucketQuotaExceeded
        XMinioStorageFull 507
    """,
    _NO_BUCKET: "InvalidBucketName NoSuchBucket",
    _NO_UPLOAD: "NoSuchUpload",
    _NO_OBJECT: "NoSuchKey NoSuchVersion NotFound 404",
    _CHANGED: "PreconditionFailed 412",
}
_ROWS = {code: row for row, codes in _CODES.items() for code in codes.split()}

# What a store says when it refuses CompleteMultipartUpload and keeps the upload as it was.
# SeaweedFS answers InvalidRequest where checksums of parts are missing, BadDigest where one of
# them or that of the whole differs.
_COMPLETE_CODES: dict[_Row, str] = {
    _PARTS_REFUSED: """
        EntityTooLarge EntityTooSmall InvalidArgument InvalidPart InvalidPartNumber
        InvalidPartOrder InvalidRequest MalformedXML
    """,
    _CHECKSUM_REFUSED: """
        BadDigest ChecksumMismatch InvalidChecksum InvalidDigest XAmzContentChecksumMismatch
    """,
    _KEY_TAKEN: "PreconditionFailed 412",
}
_COMPLETE_ROWS = {code: row for row, codes in _COMPLETE_CODES.items() for code in codes.split()}
# These say that nothing was done; any other answer to a Complete may come after the deed.
_BELIEVED = {
    *_COMPLETE_CODES,
    *(_DENIED, _SKEWED, _MISCONFIGURED, _FULL, _NO_BUCKET, _NO_UPLOAD),
}

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def error_of(status: int, code: str, *, operation: str) -> GatewayError:
    """Return the error for an answer with this HTTP status and S3 code (may be empty)."""
    row = _row_of(status, code) or _UNEXPECTED
    return _build(row, status, code, operation)


def complete_error_of(status: int, code: str) -> GatewayError:
    """Return the error for an answer to CompleteMultipartUpload, whatever its status was.

    A refusal is believed only where it is known to leave the upload as it was; all else is
    Uncertain (laws 1 and 3), SlowDown and InternalError too.
    """
    row = _COMPLETE_ROWS.get(code) or _COMPLETE_ROWS.get(str(status)) or _row_of(status, code)
    if row is None or row not in _BELIEVED:
        return uncertain(status, code)
    return _build(row, status, code, "CompleteMultipartUpload")


def uncertain(status: int = 0, code: str = "") -> Uncertain:
    """Return the error for a Complete of which nobody knows whether it took place."""
    return Uncertain(
        "The store did not say whether the upload is completed.",
        hint="Look at the object before trying again.",
        details=_details(status, code, "CompleteMultipartUpload"),
    )


def unexpected_answer(operation: str) -> Unavailable:
    """Return the error for an answer that is cut short or makes no sense."""
    return Unavailable(
        "The store's answer cannot be understood.",
        code="storage_unavailable",
        hint="Try again in a moment.",
        details={"operation": operation},
    )


def never_sent(error: BaseException) -> bool:
    """Tell whether a request certainly did not reach the store."""
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn what aiohttp and botocore raise inside into errors of ours, the cause chained."""
    try:
        yield
    except botocore.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise error_of(status, code, operation=operation) from error
    except (botocore.BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise _unanswered(error, operation) from error


def _unanswered(error: Exception, operation: str) -> GatewayError:
    """Return the error for a call that brought no answer. OSError includes TimeoutError."""
    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError)):
        return credentials_missing()
    for kinds, row in _UNANSWERED:
        if isinstance(error, kinds):
            return _build(row, 0, "", operation)
    return _build(_BUSY, 0, "", operation)


def credentials_missing() -> Forbidden:
    """Return the error for a credential chain that ends without credentials."""
    return Forbidden(
        "There are no credentials for the store.",
        code="storage_credentials_missing",
        hint="Set an access key and its secret, or give this machine a role.",
    )


def _row_of(status: int, code: str) -> _Row | None:
    row = _ROWS.get(code) or _ROWS.get(str(status))
    return _BUSY if row is None and status >= 500 else row  # noqa: PLR2004 - server errors.


def _build(row: _Row, status: int, code: str, operation: str) -> GatewayError:
    return row.kind(
        row.message,
        code=row.code,
        hint=row.hint,
        retryable=row.retryable,
        details=_details(status, code, operation),
    )


def _details(status: int, code: str, operation: str) -> dict[str, int | str]:
    # A code from elsewhere is repeated only where it looks like one.
    known = code if _CODE.fullmatch(code) else ""
    return {"operation": operation, "status": status, "store_code": known}
