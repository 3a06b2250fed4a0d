"""One upload as it really went, call by call, for the OpenAPI document.

A test makes these calls again, and compares all but what differs each time: ids, times, addresses.
The file is 12 MiB: the bytes 0 to 255 over and over.
"""

from typing import Any, Final

from gateway.core.model import State, VerifiedBy
from gateway.doors.native import answers

_ID: Final = "10309aca64b44ae060269c768ae978f6"
_KEY: Final = f"uploads/{_ID}/film.mp4"
_STORE: Final = f"https://s3.example.com/uploads/{_KEY}"
_FIRST: Final = "EHuWCSKz4KI="
_SECOND: Final = "+whdJ/E2RcQ="
_ETAGS: Final = ("57b019a28c426df5727b3992701bd2be", "631b2c76267e568ccb221193ab23e134")
_SERVER_TIME: Final = "2026-11-21T14:18:12.209Z"
_URL_EXPIRES: Final = "2026-11-21T14:33:12.000Z"

_CREATED: Final[answers.Session] = {
    "session_id": _ID,
    "state": State.OPEN,
    "filename": "film.mp4",
    "content_type": "video/mp4",
    "size": 12582912,
    "part_size": 8388608,
    "part_count": 2,
    "received_bytes": 0,
    "received_parts": 0,
    "in_flight_bytes": 0,
    "missing": "1-2",
    "phase": "uploading",
    "fraction": 0.0,
    "checksum_algorithm": "crc64nvme",
    "checksum": None,
    "verified_by": None,
    "fingerprint": "film.mp4-12582912-1795255200",
    "metadata": {},
    "created_at": "2026-11-21T14:18:12.165Z",
    "updated_at": "2026-11-21T14:18:12.165Z",
    "expires_at": "2026-11-28T14:18:12.165Z",
    "object": None,
    "error": None,
    "part_etag_is_md5": True,
}


def _signed(number: int, size: int, checksum: str, signature: str) -> answers.SignedPart:
    query = (
        f"uploadId=2623c83fc1f6bcf676b2f3a4e826bbaa&partNumber={number}"
        "&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=GWA0C02AB36199EA18D8%2F20261121%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20261121T141812Z&X-Amz-Expires=900"
        "&X-Amz-SignedHeaders=content-length%3Bhost%3Bx-amz-checksum-crc64nvme"
        f"&X-Amz-Signature={signature}"
    )
    return {
        "part_number": number,
        "url": f"{_STORE}?{query}",
        "method": "PUT",
        "headers": {"x-amz-checksum-crc64nvme": checksum},
        "size": size,
        "expires_at": _URL_EXPIRES,
    }


CREATE: Final[dict[str, Any]] = {
    "A file": {
        "filename": "film.mp4",
        "size": 12582912,
        "content_type": "video/mp4",
        "fingerprint": "film.mp4-12582912-1795255200",
    },
    "A stream whose size is not known yet": {"filename": "backup.tar", "size": None},
    "With the first part URLs and a checksum of the whole file": {
        "filename": "film.mp4",
        "size": 12582912,
        "checksum": {"algorithm": "crc64nvme", "value": "IbIy6cnIEzw="},
        "metadata": {"album": "holidays"},
        "sign": 2,
    },
}
CREATED: Final = _CREATED

SIGN: Final[dict[str, Any]] = {
    "With checksums, which the store then checks": {
        "parts": [
            {"part_number": 1, "checksum": _FIRST},
            {"part_number": 2, "checksum": _SECOND},
        ]
    },
    "The first two, for five minutes": {"from": 1, "count": 2, "expires_in": 300},
}
SIGNED: Final[answers.SignedParts] = {
    "parts": [
        _signed(
            1, 8388608, _FIRST, "9f4512219e198b429a7a481bd6b3ce29148ba7f048db731d133c61e9d46b1dc4"
        ),
        _signed(
            2, 4194304, _SECOND, "43fc2e9c319b6abf48428557d0ccef178967eae872424569c6727da24609873c"
        ),
    ],
    "server_time": _SERVER_TIME,
}

ACKNOWLEDGE: Final[dict[str, Any]] = {
    "One part": {"parts": [{"part_number": 1, "etag": _ETAGS[0], "checksum": _FIRST}]}
}
_ONE_STORED: Final[answers.Session] = {
    **_CREATED,
    "received_bytes": 8388608,
    "received_parts": 1,
    "missing": "2",
    "fraction": 0.6666666666666666,
}
ACKNOWLEDGED: Final[answers.AcknowledgedParts] = {
    "session": _ONE_STORED,
    "outcomes": [{"part_number": 1, "outcome": "stored"}],
}

PROGRESS: Final[dict[str, Any]] = {"3 MiB of part 2": {"in_flight": {"2": 3145728}}}
HALF_SENT: Final[answers.Session] = {**_ONE_STORED, "in_flight_bytes": 3145728}

PARTS: Final[answers.PartPage] = {
    "parts": [
        {"part_number": 1, "size": 8388608, "etag": _ETAGS[0], "checksum": _FIRST},
        {"part_number": 2, "size": 4194304, "etag": _ETAGS[1], "checksum": None},
    ],
    "next_cursor": None,
}

COMPLETE: Final[dict[str, Any]] = {
    "With the last part acknowledged on the way": {
        "parts": [{"part_number": 2, "etag": _ETAGS[1], "checksum": _SECOND}]
    },
    "Of a size that was not known before": {"size": 12582912},
}
COMPLETED: Final[answers.Session] = {
    **_CREATED,
    "state": State.COMPLETED,
    "received_bytes": 12582912,
    "received_parts": 2,
    "missing": "",
    "phase": "done",
    "fraction": 1.0,
    "verified_by": VerifiedBy.CLIENT_PARTS,
    "updated_at": "2026-11-21T14:18:12.482Z",
    "object": {
        "bucket": "uploads",
        "key": _KEY,
        "etag": "ced53fb2e4a477a442f2b7ad14abff57-2",
        "size": 12582912,
        "checksums": {"crc64nvme": "IbIy6cnIEzw="},
    },
}

EVENTS: Final = """\
retry: 2000

id: 1-1-8388608-0-0
event: status
data: {"session_id":"10309aca64b44ae060269c768ae978f6","state":"open", ...}

id: 1-1-8388608-3145728-0
event: progress
data: {"received_bytes":8388608,"received_parts":1,"in_flight_bytes":3145728,\
"fraction":0.6666666666666666,"phase":"uploading"}

id: 4-2-12582912-0-0
event: end
data: {"session_id":"10309aca64b44ae060269c768ae978f6","state":"completed", ...}
"""

CONTENT: Final[answers.ContentAddress] = {
    "url": f"{_STORE}?response-content-disposition=attachment%3B%20filename%3D%22film.mp4%22"
    "&response-content-type=video%2Fmp4&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=GWA0C02AB36199EA18D8%2F20261121%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20261121T141812Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=1f7febfd253c29560f0ba7fbdbe0a4e77807fb42f54ddb2adfee12e3c66b8e04",
    "expires_at": "2026-11-21T14:33:12.490Z",
    "filename": "film.mp4",
    "size": 12582912,
    "content_type": "video/mp4",
    "checksums": {"crc64nvme": "IbIy6cnIEzw="},
}

VERSION: Final[answers.Version] = {
    "name": "multipart-gateway",
    "version": "0.1.0",
    "server_time": _SERVER_TIME,
    "store": {
        "part_etag_is_md5": True,
        "checksums": ["crc64nvme", "crc32c", "crc32", "sha256"],
        "object_checksums": ["crc64nvme", "crc32c", "crc32"],
        "default_checksum": "crc64nvme",
        "max_parts": 10000,
        "min_part_size": 5242880,
        "max_part_size": 5368709120,
        "max_object_size": 53687091200000,
        "conditional_complete": True,
    },
}
