"""What goes wrong in a store, told in the gateway's own errors: the only place that translates.

Stores answer with a code in XML; which codes exist, and what they mean, is in "Error responses"
(docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), for MinIO's and SeaweedFS's own in
their sources. Codes that are not in the table are judged by their HTTP status. No message here
repeats what the store wrote, since that may hold a signature; the store's code is in `details`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import aiohttp
from botocore import exceptions as botocore

from gateway.errors import (
    Conflict,
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

_Facts: TypeAlias = Mapping[str, int | str]
_Make: TypeAlias = Callable[[_Facts], GatewayError]


# What happened, as functions from the facts to an error.


def _denied(details: _Facts) -> GatewayError:
    # Not Forbidden: it is the gateway that lacks a right, and no caller can help that.
    return Unavailable(
        "The store refuses the gateway's credentials.",
        code="storage_denied",
        hint="Check the access key, its secret and its permissions on the bucket, and this "
        "machine's clock.",
        retryable=False,
        details=details,
    )


def _skewed(details: _Facts) -> GatewayError:
    return Unavailable(
        "The clocks of the gateway and of the store are too far apart.",
        code="clock_skewed",
        hint="Synchronise both with NTP; S3 accepts 15 minutes of difference.",
        retryable=False,
        details=details,
    )


def _misconfigured(details: _Facts) -> GatewayError:
    return Unavailable(
        "The bucket is not at this endpoint, or not in this region.",
        code="storage_misconfigured",
        hint="Compare region, endpoint and addressing style with those of the bucket.",
        retryable=False,
        details=details,
    )


def _unsupported(details: _Facts) -> GatewayError:
    return Unavailable(
        "The store does not offer this operation.",
        code="storage_unsupported",
        hint="Run `gateway doctor` to see what this store can do.",
        retryable=False,
        details=details,
    )


def _busy(details: _Facts) -> GatewayError:
    return Unavailable(
        "The store cannot answer for now.",
        code="storage_unavailable",
        hint="Try again in a moment.",
        details=details,
    )


def _full(details: _Facts) -> GatewayError:
    return StorageFull(
        "The store has no room left.",
        code="storage_full",
        hint="Free or add space in the store; what is uploaded so far stays.",
        details=details,
    )


def _no_bucket(details: _Facts) -> GatewayError:
    return NotFound(
        "The store has no such bucket.",
        code="bucket_not_found",
        hint="Create the bucket, or correct its name in the settings.",
        details=details,
    )


def _no_upload(details: _Facts) -> GatewayError:
    return NoSuchUpload(
        "The store does not know this multipart upload.",
        code="no_such_upload",
        hint="It was completed or aborted; only the object's own stamp can tell which.",
        details=details,
    )


def _no_object(details: _Facts) -> GatewayError:
    return NoSuchObject(
        "The store has no object under this key.",
        code="no_such_object",
        hint="It may not be there yet, or was deleted.",
        details=details,
    )


def _changed(details: _Facts) -> GatewayError:
    return Conflict(
        "The object is not the one that was asked for any more.",
        code="object_changed",
        hint="Read its description again, and start over.",
        details=details,
    )


def _parts_refused(details: _Facts) -> GatewayError:
    return Conflict(
        "The store refuses this list of parts.",
        code="parts_refused",
        hint="Compare the parts with those that the store lists, and send again what differs.",
        details=details,
    )


def _checksum_refused(details: _Facts) -> GatewayError:
    return Conflict(
        "The checksum of the whole object is not that of the parts in the store.",
        code="checksum_refused",
        hint="Compare the parts' checksums with the file, and send again what differs.",
        details=details,
    )


def _damaged(details: _Facts) -> GatewayError:
    return Unavailable(
        "The part was damaged on its way to the store.",
        code="part_damaged",
        hint="Send the same part again.",
        details=details,
    )


def _key_taken(details: _Facts) -> GatewayError:
    return Conflict(
        "There is an object under this key already.",
        code="key_taken",
        hint="Look whether it is the one that this upload made; if not, choose another key.",
        details=details,
    )


def _unexpected(details: _Facts) -> GatewayError:
    return Internal(
        "The store refused a request in a way that the gateway does not know.",
        code="storage_unexpected",
        hint="The log has the store's own code.",
        details=details,
    )


def _no_tls(details: _Facts) -> GatewayError:
    return Unavailable(
        "The store's TLS certificate is not accepted.",
        code="storage_misconfigured",
        hint="Give the store a certificate that this machine trusts.",
        retryable=False,
        details=details,
    )


def _silent(details: _Facts) -> GatewayError:
    return Unavailable(
        "The store did not answer in time.",
        code="storage_timeout",
        hint="Try again in a moment; look at the network between gateway and store.",
        details=details,
    )


def _no_credentials(details: _Facts) -> GatewayError:
    return Unavailable(
        "The credentials for the store could not be fetched.",
        code="storage_credentials_unavailable",
        hint="Look at the role, profile or metadata service that gives them out.",
        details=details,
    )


def _inexpressible(details: _Facts) -> GatewayError:
    return InvalidRequest(
        "The store's protocol cannot carry this request.",
        code="invalid_request",
        hint="Bucket, key and metadata must be what S3 takes; metadata is ASCII.",
        details=details,
    )


_UNANSWERED: tuple[tuple[tuple[type[Exception], ...], _Make], ...] = (
    ((botocore.CredentialRetrievalError,), _no_credentials),
    ((botocore.ParamValidationError,), _inexpressible),
    ((aiohttp.ClientSSLError, botocore.SSLError), _no_tls),
    ((TimeoutError, botocore.ConnectTimeoutError, botocore.ReadTimeoutError), _silent),
)

_CODES: dict[_Make, str] = {
    _denied: """
        AccessDenied AccountProblem AllAccessDisabled ExpiredToken InvalidAccessKeyId InvalidToken
        InvalidSecurity NotSignedUp SignatureDoesNotMatch Unauthorized 401 403
    """,
    # The gateway's own requests are signed when they are sent: one that is not valid yet, or no
    # more, tells of the clocks.
    _skewed: "RequestTimeTooSkewed RequestNotYetValid RequestNotReadyYet ExpiredPresignRequest",
    _misconfigured: """
        AuthorizationHeaderMalformed IllegalLocationConstraintException PermanentRedirect Redirect
        TemporaryRedirect 301 307 308
    """,
    _unsupported: "MethodNotAllowed NotImplemented 405 501",
    _busy: """
        BandwidthLimitExceeded Busy ConditionalRequestConflict InternalError OperationAborted
        RequestTimeout ServerBusy ServiceUnavailable SlowDown Throttling ThrottlingException
        XMinioServerNotInitialized 408 425 429
    """,
    _full: """
        InsufficientStorage NoSpaceLeft QuotaExceeded XMinioAdminBucketQuotaExceeded
        XMinioStorageFull 507
    """,
    _no_bucket: "InvalidBucketName NoSuchBucket",
    _no_upload: "NoSuchUpload",
    _no_object: "NoSuchKey NoSuchVersion NotFound 404",
    _changed: "PreconditionFailed 412",
}
_ROWS = {code: row for row, codes in _CODES.items() for code in codes.split()}

_DIGEST_CODES = """
    BadDigest ChecksumMismatch InvalidChecksum InvalidDigest XAmzContentChecksumMismatch
"""
# What a store says of a part whose bytes are not those that the checksum is of, or too few.
_PART_ROWS = dict.fromkeys(f"{_DIGEST_CODES} IncompleteBody".split(), _damaged)

# What a store says when it refuses CompleteMultipartUpload and keeps the upload as it was.
# SeaweedFS answers InvalidRequest where checksums of parts are missing, BadDigest where one of
# them or that of the whole differs.
_COMPLETE_CODES: dict[_Make, str] = {
    _parts_refused: """
        EntityTooLarge EntityTooSmall InvalidArgument InvalidPart InvalidPartNumber
        InvalidPartOrder InvalidRequest MalformedXML
    """,
    _checksum_refused: _DIGEST_CODES,
    _key_taken: "PreconditionFailed 412",
}
_COMPLETE_ROWS = {code: row for row, codes in _COMPLETE_CODES.items() for code in codes.split()}
# These say that nothing was done; any other answer to a Complete may come after the deed.
_BELIEVED = {
    *_COMPLETE_CODES,
    *(_denied, _skewed, _misconfigured, _full, _no_bucket, _no_upload),
}

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def error_of(status: int, code: str, *, operation: str) -> GatewayError:
    """Return the error for an answer with this HTTP status and S3 code (may be empty)."""
    row = _row_of(status, code) or _unexpected
    return _build(row, status, code, operation)


def refusal_of(status: int, code: str, *, operation: str) -> GatewayError:
    """Return the error for an answer that had room for S3's own words.

    A 404 without them is a proxy's, or was cut: it says nothing about the upload or the object.
    """
    if status == 404 and not code:  # noqa: PLR2004 - not found
        return unexpected_answer(operation)
    return error_of(status, code, operation=operation)


def part_error_of(status: int, code: str) -> GatewayError:
    """Return the error for a refusal of a part's bytes."""
    operation = "UploadPart"
    if row := _PART_ROWS.get(code):
        return _build(row, status, code, operation)
    return refusal_of(status, code, operation=operation)


def damaged_part() -> GatewayError:
    """Return the error for a part of which the store computes another checksum than was sent."""
    return _build(_damaged, 200, "", "UploadPart")


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
        details=_facts(status, code, "CompleteMultipartUpload"),
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
    return _build(_busy, 0, "", operation)


def credentials_missing() -> Unavailable:
    """Return the error for a credential chain that ends without credentials."""
    return Unavailable(
        "There are no credentials for the store.",
        code="storage_credentials_missing",
        hint="Set an access key and its secret, or give this machine a role.",
        retryable=False,
    )


def _row_of(status: int, code: str) -> _Make | None:
    row = _ROWS.get(code) or _ROWS.get(str(status))
    return _busy if row is None and status >= 500 else row  # noqa: PLR2004 - server errors.


def _build(row: _Make, status: int, code: str, operation: str) -> GatewayError:
    return row(_facts(status, code, operation))


def _facts(status: int, code: str, operation: str) -> dict[str, int | str]:
    # A code from elsewhere is repeated only where it looks like one.
    known = code if _CODE.fullmatch(code) else ""
    return {"operation": operation, "status": status, "store_code": known}
