"""The error codes of the API with their statuses and meanings, and which of them any call can meet.

For the OpenAPI document; the errors themselves are raised where they happen, with their own words.
A test compares this table with the source: each code that is raised has a place here, or a reason
why no caller ever sees it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class ProblemCode:
    """What a code means, and the status that it comes with."""

    status: int
    meaning: str


_CODES: Final = {
    "body_truncated": ProblemCode(400, "the body breaks off, or its framing is wrong"),
    "checksum_required": ProblemCode(400, "each part of a SHA-256 session needs its checksum"),
    "checksum_unsupported": ProblemCode(400, "the store cannot check this algorithm"),
    "chunk_empty": ProblemCode(400, "a chunk has at least one byte"),
    "chunk_index_out_of_range": ProblemCode(400, "the file has no such chunk"),
    "chunk_size_mismatch": ProblemCode(400, "all chunks but the last have one size"),
    "duplicate_part": ProblemCode(400, "a part number comes twice in one call"),
    "invalid_body": ProblemCode(400, "not the JSON that the call takes"),
    "invalid_bucket": ProblemCode(400, "not the name of a bucket"),
    "invalid_checksum": ProblemCode(
        400, "unknown algorithm, or not the base64 of the right number of bytes"
    ),
    "invalid_content_type": ProblemCode(400, "not a media type"),
    "invalid_cursor": ProblemCode(400, "the cursor is not one of ours"),
    "invalid_etag": ProblemCode(400, "not what a store answers a PUT with"),
    "invalid_file_id": ProblemCode(400, "not an id of 1 to 255 bytes without control characters"),
    "invalid_filename": ProblemCode(400, "not a name of 1 to 1,024 bytes; a path is none"),
    "invalid_fingerprint": ProblemCode(400, "not 1 to 255 bytes without control characters"),
    "invalid_form": ProblemCode(400, "not a well-formed form of RFC 7578"),
    "invalid_host": ProblemCode(400, "not one Host header with a host name"),
    "invalid_idempotency_key": ProblemCode(
        400, "Idempotency-Key is not 1 to 255 printable ASCII characters"
    ),
    "invalid_key": ProblemCode(
        400, "no key that any store takes, or one under .gateway/, which is the gateway's own"
    ),
    "invalid_metadata": ProblemCode(400, "metadata holds control characters"),
    "invalid_parameter": ProblemCode(400, "a field of the form is not what it has to be"),
    "invalid_query": ProblemCode(400, "a query parameter is not valid"),
    "invalid_request": ProblemCode(400, "malformed, or outside the limits"),
    "invalid_total_parts": ProblemCode(400, "no parts of one size are so many"),
    "malformed_request": ProblemCode(400, "this is no well-formed HTTP request"),
    "metadata_too_large": ProblemCode(400, "metadata takes more than 2,048 bytes"),
    "missing_parameter": ProblemCode(400, "a field of the form is missing or empty"),
    "digest_mismatch": ProblemCode(400, "the bytes that arrived are not those of their digest"),
    "length_required": ProblemCode(400, "the part needs a Content-Length"),
    "part_length_mismatch": ProblemCode(400, "the part cannot have this length"),
    "part_number_out_of_range": ProblemCode(400, "this upload has no such part number"),
    "part_size_out_of_range": ProblemCode(
        400, "parts of this size do not fit this file and this store"
    ),
    "size_mismatch": ProblemCode(400, "not the declared size, or parts are stored beyond it"),
    "size_out_of_range": ProblemCode(
        400, "the size of a file is a whole number of bytes, and not negative"
    ),
    "size_required": ProblemCode(400, "the size of this file is not known yet"),
    "total_chunks_out_of_range": ProblemCode(400, "a file has 1 to 1,000,000 chunks"),
    "unknown_checksum_algorithm": ProblemCode(400, "not one of crc64nvme, crc32c, crc32, sha256"),
    "invalid_token": ProblemCode(401, "the token is not valid"),
    "unauthenticated": ProblemCode(401, "a token is needed"),
    "host_not_allowed": ProblemCode(
        403, "without a token, this gateway answers to loopback names only"
    ),
    "key_not_allowed": ProblemCode(403, "clients may not choose the bucket or the key here"),
    "origin_not_allowed": ProblemCode(403, "pages of this origin may not call this gateway"),
    "bucket_not_found": ProblemCode(404, "the store has no such bucket"),
    "no_such_object": ProblemCode(404, "the store has no object under this key"),
    "not_found": ProblemCode(404, "there is no such file"),
    "session_not_found": ProblemCode(404, "unknown, or another principal's"),
    "request_timeout": ProblemCode(408, "head or body arrive too slowly"),
    "chunk_conflict": ProblemCode(409, "other bytes are stored for the chunk; they stay"),
    "chunks_missing": ProblemCode(409, "chunks to send, whose indexes the error names as ranges"),
    "checksum_refused": ProblemCode(
        409, "the checksum of the whole object is not that of the parts in the store"
    ),
    "creation_in_flight": ProblemCode(
        409, "the first request with this Idempotency-Key is under way"
    ),
    "file_id_taken": ProblemCode(409, "another file was begun under this id"),
    "total_chunks_changed": ProblemCode(409, "the file was begun with another number of chunks"),
    "session_chunked": ProblemCode(
        409, "this file is sent in chunks, from which the gateway makes the parts"
    ),
    "key_taken": ProblemCode(409, "another object lies under the key; it is left alone"),
    "not_completed": ProblemCode(409, "the upload is not completed yet"),
    "object_changed": ProblemCode(409, "the object is not the one that was asked for any more"),
    "part_busy": ProblemCode(409, "another sender is at this part"),
    "part_conflict": ProblemCode(
        409, "other bytes are stored for the part; `replace` says that the new ones are meant"
    ),
    "parts_missing": ProblemCode(
        409, "parts to send again; `details` has `missing`, `wrong_size` and `changed` as ranges"
    ),
    "parts_refused": ProblemCode(409, "the store refuses the part list"),
    "quarantined": ProblemCode(409, "the object failed its check and is in quarantine"),
    "session_busy": ProblemCode(409, "the session is being completed or verified"),
    "session_changed": ProblemCode(409, "somebody else changed the session at the same time"),
    "session_completed": ProblemCode(409, "completed already"),
    "session_corrupt": ProblemCode(409, "the object failed its check"),
    "session_not_open": ProblemCode(409, "parts can no longer be sent"),
    "session_rejected": ProblemCode(409, "the content was refused"),
    "session_gone": ProblemCode(410, "aborted, expired or lost; create a new session"),
    "body_too_large": ProblemCode(413, "the body is larger than the call takes"),
    "file_too_large": ProblemCode(
        413, "the file is larger than is taken here, or than this upload can become"
    ),
    "content_not_allowed": ProblemCode(415, "the file's first bytes are not those of its type"),
    "file_type_not_allowed": ProblemCode(
        415, "files of this name or content_type are not taken; `details.allowed_types`"
    ),
    "chunk_too_large": ProblemCode(413, "the chunk is larger than a part may be"),
    "form_too_large": ProblemCode(413, "a form with too many fields, or too large ones"),
    "unsupported_encoding": ProblemCode(415, "encoded bodies are not taken"),
    "unsupported_media_type": ProblemCode(
        415, "the body must be JSON, or a form where the call takes one"
    ),
    "range_not_satisfiable": ProblemCode(416, "this range lies outside the file"),
    "expectation_failed": ProblemCode(417, "this Expect header is not understood"),
    "corrupt": ProblemCode(
        422, "the stored bytes are not those that were promised; `details.session`"
    ),
    "idempotency_mismatch": ProblemCode(422, "this Idempotency-Key was used for another request"),
    "rejected": ProblemCode(422, "policy refuses the content; `details.session`"),
    "headers_too_large": ProblemCode(431, "the head of the request is too large"),
    "internal_error": ProblemCode(500, "our mistake; the log has it under the request id"),
    "presigning_unsupported": ProblemCode(500, "this storage cannot presign"),
    "record_unreadable": ProblemCode(500, "the record of this session cannot be read"),
    "redis_error": ProblemCode(500, "Redis refused a command of the gateway"),
    "storage_unexpected": ProblemCode(
        500, "the store refused a request in a way that the gateway does not know"
    ),
    "clock_skewed": ProblemCode(
        503, "the clocks of the gateway and of the store are too far apart"
    ),
    "redis_denied": ProblemCode(503, "Redis refuses the gateway's credentials"),
    "redis_full": ProblemCode(503, "Redis has no memory left for new sessions"),
    "redis_tls_failed": ProblemCode(503, "the TLS connection to Redis fails"),
    "redis_unavailable": ProblemCode(503, "Redis does not answer"),
    "starting": ProblemCode(
        503, "the gateway has started, but Redis or the store has not answered yet"
    ),
    "storage_credentials_missing": ProblemCode(503, "there are no credentials for the store"),
    "storage_credentials_unavailable": ProblemCode(
        503, "the credentials for the store could not be fetched"
    ),
    "storage_denied": ProblemCode(503, "the store refuses the gateway's credentials"),
    "storage_misconfigured": ProblemCode(
        503, "the bucket is not at this endpoint, or not in this region"
    ),
    "storage_timeout": ProblemCode(503, "the store did not answer in time"),
    "storage_unavailable": ProblemCode(503, "the store cannot answer for now"),
    "storage_unsupported": ProblemCode(503, "the store does not offer this operation"),
    "too_many_connections": ProblemCode(503, "the gateway has as many connections as it takes"),
    "memory_budget_exhausted": ProblemCode(503, "there is no memory left for more on its way"),
    "part_damaged": ProblemCode(503, "a part changed on its way to the store"),
    "too_many_parts_in_flight": ProblemCode(503, "the gateway relays as many parts as it can"),
    "too_many_relays": ProblemCode(503, "no more files can be relayed now"),
    "too_many_streams": ProblemCode(503, "no more event streams can be opened now"),
    "staging_full": ProblemCode(507, "too much waits for its assembly"),
    "storage_full": ProblemCode(507, "the store has no room left"),
}
PROBLEMS: Final[Mapping[str, ProblemCode]] = MappingProxyType(_CODES)
"""Every code that an answer of the API may carry."""

_LATER = frozenset({"creation_in_flight", "session_busy", "session_changed"})
_LATER_STATUSES = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE})

EVERYWHERE: Final = frozenset(
    {
        "expectation_failed",
        "headers_too_large",
        "internal_error",
        "invalid_host",
        "malformed_request",
        "request_timeout",
        "too_many_connections",
    }
)
"""What any request can be answered with, before it is known what it asks for, or after a mistake
of ours."""

DOOR: Final = frozenset({"host_not_allowed", "origin_not_allowed", "starting"})
"""What any call of a door can be answered with."""

CALLER: Final = DOOR | {"invalid_token", "unauthenticated"}
"""What any call of a door that is not public can be answered with."""

REDIS: Final = frozenset(
    {"redis_denied", "redis_error", "redis_full", "redis_tls_failed", "redis_unavailable"}
)
"""What Redis can be the reason of."""

STORE: Final = frozenset(
    {
        "bucket_not_found",
        "clock_skewed",
        "storage_credentials_missing",
        "storage_credentials_unavailable",
        "storage_denied",
        "storage_misconfigured",
        "storage_timeout",
        "storage_unavailable",
        "storage_unexpected",
        "storage_unsupported",
    }
)
"""What any call that asks the store can be answered with."""

BODY: Final = frozenset(
    {
        "body_too_large",
        "body_truncated",
        "invalid_body",
        "unsupported_encoding",
        "unsupported_media_type",
    }
)
"""What a call with a JSON body can be answered with."""


FORM: Final = frozenset(
    {
        "body_truncated",
        "form_too_large",
        "invalid_form",
        "unsupported_encoding",
        "unsupported_media_type",
    }
)
"""What a call with a form can be answered with."""


def says_when(code: str) -> bool:
    """Tell whether Retry-After may come with this code."""
    return code in _LATER or PROBLEMS[code].status in _LATER_STATUSES
