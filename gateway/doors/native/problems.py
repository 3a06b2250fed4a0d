"""Which error codes each call of the native API can answer, beyond those that any request can.

Written after what the verbs of the core and the ports behind them say that they raise.
"""

from typing import Final

from gateway.web.problems import BODY, CALLER, REDIS, STORE

# Whatever is asked of a session: where Redis has lost it, it is read out of the store.
_SESSION = CALLER | REDIS | STORE | {"record_unreadable", "session_not_found"}
_SETTLED = frozenset({"session_completed", "session_corrupt", "session_rejected"})
_NOT_OPEN = _SETTLED | {"session_busy", "session_not_open"}
_OPEN = _NOT_OPEN | {"session_gone"}
_RACE = frozenset({"part_conflict", "session_changed"})
_PART_LIST = frozenset({"duplicate_part", "part_number_out_of_range"})
_ACKNOWLEDGED = _PART_LIST | {"invalid_checksum", "invalid_etag", "part_conflict"}
_PRESIGN = frozenset({"presigning_unsupported"})

CREATE: Final = (
    _SESSION
    | BODY
    | _OPEN
    | _PRESIGN
    | {
        "checksum_unsupported",
        "content_not_allowed",
        "creation_in_flight",
        "file_too_large",
        "file_type_not_allowed",
        "idempotency_mismatch",
        "invalid_bucket",
        "invalid_checksum",
        "invalid_content_type",
        "invalid_filename",
        "invalid_fingerprint",
        "invalid_idempotency_key",
        "invalid_key",
        "invalid_metadata",
        "invalid_request",
        "key_not_allowed",
        "metadata_too_large",
        "part_size_out_of_range",
        "size_out_of_range",
        "storage_full",
        "unknown_checksum_algorithm",
    }
)
"""Those of an open session too: one that is found again may be closed before it is signed."""

FIND: Final = CALLER | REDIS | {"invalid_cursor", "invalid_query"}
GET: Final = _SESSION
EVENTS: Final = _SESSION | {"too_many_streams"}
COMPLETE: Final = (
    _SESSION
    | BODY
    | _ACKNOWLEDGED
    | _OPEN
    | _RACE
    | {
        "checksum_refused",
        "corrupt",
        "file_too_large",
        "invalid_query",
        "key_taken",
        "parts_missing",
        "parts_refused",
        "rejected",
        "size_mismatch",
        "size_out_of_range",
        "size_required",
    }
)
ABORT: Final = _SESSION | _NOT_OPEN | _RACE
SIGN: Final = (
    _SESSION
    | BODY
    | _OPEN
    | _PRESIGN
    | _PART_LIST
    | {
        "checksum_required",
        "file_too_large",
        "invalid_checksum",
        "invalid_request",
        "part_conflict",
        "part_length_mismatch",
    }
)
ACKNOWLEDGE: Final = _SESSION | BODY | _OPEN | _ACKNOWLEDGED | {"file_too_large"}
PARTS: Final = (
    _SESSION | _RACE | {"invalid_query", "session_busy", "session_gone", "session_not_open"}
)
PUT_PART: Final = (
    _SESSION
    | _OPEN
    | {
        "body_truncated",
        "checksum_required",
        "content_not_allowed",
        "digest_mismatch",
        "file_too_large",
        "invalid_checksum",
        "invalid_query",
        "length_required",
        "part_busy",
        "part_conflict",
        "part_damaged",
        "part_length_mismatch",
        "part_number_out_of_range",
        "request_timeout",
        "storage_full",
        "too_many_parts_in_flight",
        "unsupported_encoding",
    }
)
PROGRESS: Final = _SESSION | BODY | _OPEN | {"part_number_out_of_range"}
DESCRIBE_CONTENT: Final = (
    _SESSION
    | _PRESIGN
    | {
        "invalid_query",
        "not_completed",
        "quarantined",
        "range_not_satisfiable",
        "session_gone",
    }
)
CONTENT: Final = DESCRIBE_CONTENT | {"no_such_object", "object_changed", "too_many_relays"}
