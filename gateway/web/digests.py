"""Reads what a client says about the bytes of its body: digests in the headers that carry them.

`x-amz-checksum-*` and `Content-MD5` as S3 defines them, `Content-Digest` as RFC 9530 does. Only
what is said about the body as sent counts: `Repr-Digest` is about something else here.
"""

import re

from aiohttp import web

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import InvalidRequest

# RFC 9530, section 7.2, and the registry of digests; those that we do not know are passed over.
_CONTENT_DIGESTS = {"sha-256": "sha256", "sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
# A member of a dictionary of structured fields (RFC 8941) whose value is a byte sequence.
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")
_LONGEST = 1024

DIGEST_HEADERS = (
    "Content-Digest",
    "Content-MD5",
    *(f"x-amz-checksum-{name}" for name in ("crc64nvme", "crc32c", "crc32", "sha256", "sha1")),
)
"""What a page elsewhere may have to send."""


def read_digests(request: web.Request) -> list[Checksum]:
    """Return every digest that came along, or raise InvalidRequest `invalid_checksum`."""
    found: dict[str, Checksum] = {}
    for name, value in _values(request):
        checksum = Checksum(name, value)
        if found.setdefault(name, checksum) != checksum:
            raise _invalid("Two digests of one kind contradict each other.")
    return list(found.values())


def _values(request: web.Request) -> list[tuple[str, str]]:
    values = [
        (name, value.strip())
        for name, algorithm in ALGORITHMS.items()
        for value in request.headers.getall(algorithm.header, [])
    ]
    for header in request.headers.getall("Content-Digest", []):
        if len(header) > _LONGEST:
            raise _invalid("Content-Digest is longer than any digests are.")
        for text in header.split(","):
            member = _MEMBER.fullmatch(text)
            if member is None:
                raise _invalid("Content-Digest is not written as RFC 9530 says.")
            if member[1] in _CONTENT_DIGESTS:
                values.append((_CONTENT_DIGESTS[member[1]], member[2]))
    return values


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(
        message,
        code="invalid_checksum",
        hint="Send one digest, such as Content-Digest: sha-256=:BASE64:",
    )
