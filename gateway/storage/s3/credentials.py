"""Credentials of a store, and the right to sign with them for a while: SigV4 without the request.

Pure: the moment is handed in, and nothing is refreshed here. Neither secrets nor tokens show in a
`repr`.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final, Self
from urllib.parse import quote

from gateway.errors import InvalidRequest, Unavailable

MAX_EXPIRES_IN: Final = 604_800
"""Seconds: the longest life of a presigned URL, seven days, by the rules above."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "s3"
_REGION = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys to sign with, as they are at this moment; temporary ones carry a token and an end.

    `expires_at` is the end of temporary credentials (with a time zone): no URL signed with them
    works, or claims to work, beyond it.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.access_key_id or not self.secret_access_key:
            raise InvalidRequest(
                "The storage credentials are incomplete.",
                hint="Set both the access key id and the secret access key.",
            )
        for text in (self.access_key_id, self.secret_access_key, self.session_token or ""):
            if not (text.isascii() and text.isprintable()) or text != text.strip():
                raise InvalidRequest(
                    "The storage credentials hold white space or characters beyond ASCII.",
                    hint="Look for a space or a line break at an end; files often have one.",
                )
        if self.expires_at is not None:
            _require_time_zone(self.expires_at)


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """What all URLs signed with the same credentials in the same second share.

    `query` and `token` are encoded pairs; `mac` is keyed, and has taken in all of the string to
    sign but the hash of the canonical request.
    """

    query: tuple[tuple[str, str], ...]
    token: tuple[tuple[str, str], ...]
    mac: hmac.HMAC
    expires_at: datetime

    def authentication(self, signed_headers: str) -> list[tuple[str, str]]:
        """Return the encoded query pairs that go with `signed_headers` (`a;b`), as botocore does."""
        return [*self.query, ("X-Amz-SignedHeaders", encode(signed_headers)), *self.token]

    def sign(self, canonical_request_hash: str) -> str:
        """Return the signature of a canonical request, given its SHA-256; both in hex."""
        mac = self.mac.copy()
        mac.update(canonical_request_hash.encode())
        return mac.hexdigest()

    @classmethod
    def of(cls, credentials: Credentials, region: str, *, expires_in: int, now: datetime) -> Self:
        """Allow signing for `expires_in` seconds from `now`, or until the credentials end.

        Raises InvalidRequest for a life outside 1 to 604,800 seconds or a naive `now`, and
        Unavailable for credentials that have expired.
        """
        if not 1 <= expires_in <= MAX_EXPIRES_IN:
            raise InvalidRequest(
                f"A presigned URL cannot live for {expires_in} seconds.",
                hint=f"Choose 1 to {MAX_EXPIRES_IN} seconds.",
            )
        # The wire carries whole seconds, so the URL's life starts at the one that has begun.
        now = _require_time_zone(now).astimezone(UTC).replace(microsecond=0)
        return cls._of_second(credentials, region, expires_in, now)

    @classmethod
    @lru_cache(maxsize=64)
    def _of_second(
        cls, credentials: Credentials, region: str, expires_in: int, now: datetime
    ) -> Self:
        if credentials.expires_at is not None:
            left = credentials.expires_at - now
            expires_in = min(expires_in, left // timedelta(seconds=1))
            if expires_in < 1:
                raise Unavailable(
                    "The storage credentials have expired.",
                    hint="Try again when they have been refreshed.",
                )
        timestamp = now.strftime("%Y%m%dT%H%M%SZ")
        date = timestamp[:8]
        scope = f"{date}/{region}/{_SERVICE}/aws4_request"
        key = _signing_key(credentials.secret_access_key, date, region)
        token = credentials.session_token
        return cls(
            query=(
                ("X-Amz-Algorithm", _ALGORITHM),
                ("X-Amz-Credential", encode(f"{credentials.access_key_id}/{scope}")),
                ("X-Amz-Date", timestamp),
                ("X-Amz-Expires", str(expires_in)),
            ),
            token=(("X-Amz-Security-Token", encode(token)),) if token else (),
            mac=hmac.new(key, f"{_ALGORITHM}\n{timestamp}\n{scope}\n".encode(), sha256),
            expires_at=now + timedelta(seconds=expires_in),
        )


def require_region(region: str) -> None:
    """Raise InvalidRequest for what cannot be the name of a region."""
    if not _REGION.fullmatch(region):
        raise InvalidRequest(
            "The storage region is not a region's name.",
            hint="Use the store's region, such as us-east-1; R2 says auto.",
        )


def encode(text: str) -> str:
    """Percent-encode all but the unreserved characters, as SigV4 does in a query."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "What goes into a signed URL has to be valid Unicode.",
            hint="Use text that can be written as UTF-8.",
        ) from error


@lru_cache(maxsize=64)
def _signing_key(secret_access_key: str, date: str, region: str) -> bytes:
    """Derive the key of one secret, day (`YYYYMMDD`, UTC) and region."""
    key = f"AWS4{secret_access_key}".encode()
    for step in (date, region, _SERVICE, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def _require_time_zone(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidRequest(
            "A time without a time zone cannot be signed.", hint="Use an aware datetime."
        )
    return moment
