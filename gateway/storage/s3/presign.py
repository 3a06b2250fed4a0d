"""Our own signer of presigned S3 URLs: AWS Signature Version 4 in the query, byte-equal to botocore.

It exists for speed (thousands of part URLs without holding up the event loop; `python -m benchmarks
sign` measures it) and so that every part URL binds the exact size and, where there is one, the
checksum (law 7). Those travel as signed *headers*: whoever uses the URL has to send them, while a
checksum hoisted into the query would be a claim of the URL's own that no client repeats.

The module is pure: no clock, no network, no AWS SDK. It does not promise that a store obeys what
was signed (the probe finds that out), and it keeps dot segments and doubled slashes in a key as
S3 wants them: browsers rewrite `/../` before they send, so keys with such segments cannot be used
from there.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from gateway.core.model import SignedPart
from gateway.core.plan import MAX_PART_NUMBER
from gateway.errors import InvalidRequest
from gateway.storage.s3.credentials import Credentials, Grant, encode, require_region
from gateway.storage.s3.endpoint import Endpoint

if TYPE_CHECKING:
    from _hashlib import HASH

_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "POST", "PUT"})

# Hops on the way add or change these, `host` belongs to the endpoint, and S3 refuses a request
# that carries both a signed query and an authorization header.
_UNSIGNABLE_HEADERS: Final = frozenset(
    {
        "authorization",
        "baggage",
        "connection",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
# HTTP clients set these two by themselves, and scripts in a browser are not allowed to.
_IMPLIED_HEADERS: Final = frozenset({"content-length", "host"})
# The signer writes these; a second one would make the URL mean two things.
_RESERVED_QUERY: Final = frozenset(
    f"x-amz-{name}"
    for name in (
        "algorithm",
        "credential",
        "date",
        "expires",
        "security-token",
        "signature",
        "signedheaders",
    )
)

# Stands where a checksum goes while a template is cut; no host or header name can hold it.
_GAP: Final = "\0"

_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_CHECKSUM_HEADER = re.compile(r"content-md5|x-amz-checksum-[a-z0-9]{1,32}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,128}={0,2}")


@dataclass(frozen=True, slots=True)
class SignedURL:
    """A presigned URL, with what its user has to know.

    `headers` are to be sent exactly so; Host and Content-Length are signed too but left out, for
    HTTP clients set them. `expires_at` is in UTC. The URL is as good as a password until then,
    so it stays out of `repr`.
    """

    url: str = field(repr=False)
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class QuerySigner:
    """Signs URLs of one endpoint in one region."""

    endpoint: Endpoint
    region: str

    def __post_init__(self) -> None:
        require_region(self.region)

    def presign(
        self,
        credentials: Credentials,
        method: str,
        bucket: str,
        key: str,
        *,
        expires_in: int,
        now: datetime,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> SignedURL:
        """Sign one request for `expires_in` seconds (1 to 604,800) from `now` (with a time zone).

        `query` holds decoded pairs, such as `response-content-type`; `headers` are all signed.
        Raises InvalidRequest for what cannot be signed, Unavailable for expired credentials.
        """
        if method not in _METHODS:
            raise InvalidRequest(
                "Only DELETE, GET, HEAD, POST and PUT requests are signed.",
                hint="Write the method in capitals.",
            )
        host, path = self.endpoint.locate(bucket, key)
        grant = Grant.of(credentials, self.region, expires_in=expires_in, now=now)
        pairs = _query_pairs(query)
        canonical_headers = _canonical_headers(headers or {})
        signed = sorted([("host", host), *canonical_headers.items()])
        names = ";".join(name for name, _ in signed)
        authentication = grant.authentication(names)
        canonical_request = "\n".join(
            (
                method,
                path,
                _join(sorted([*pairs, *authentication])),
                *(f"{name}:{value}" for name, value in signed),
                "",
                names,
                _PAYLOAD,
            )
        )
        signature = grant.sign(sha256(canonical_request.encode()).hexdigest())
        # The store sorts the query by itself; this is the order in which botocore writes it.
        written = _join([*pairs, *authentication, ("X-Amz-Signature", signature)])
        return SignedURL(
            f"{self.endpoint.scheme}://{host}{path}?{written}",
            {n: v for n, v in canonical_headers.items() if n not in _IMPLIED_HEADERS},
            grant.expires_at,
        )

    def parts(
        self,
        credentials: Credentials,
        bucket: str,
        key: str,
        upload_id: str,
        *,
        expires_in: int,
        now: datetime,
    ) -> "PartSigner":
        """Prepare to sign many part URLs of one multipart upload, as of `now`.

        Prepare again for every batch: the URLs' life starts at `now`. Raises like `presign`.
        """
        if not upload_id:
            raise InvalidRequest(
                "A part URL needs the multipart upload's id.",
                hint="Create the multipart upload first.",
            )
        host, path = self.endpoint.locate(bucket, key)
        grant = Grant.of(credentials, self.region, expires_in=expires_in, now=now)
        [upload] = _query_pairs([("uploadId", upload_id)])
        return PartSigner(self.endpoint.scheme, host, path, _join([upload]), grant)


@dataclass(frozen=True, slots=True, repr=False)
class _Template:
    """A part URL and its canonical request, with gaps for part number, size and checksum.

    `state` has hashed the canonical request up to the part number already, which works because
    `partNumber` and `uploadId` sort behind every `X-Amz-` name.
    """

    state: "HASH"
    before_size: str
    before_checksum: str
    end: str
    url_end: str


@dataclass(frozen=True, slots=True, repr=False)
class PartSigner:
    """Signs part URLs of one multipart upload as of one moment; made by `QuerySigner.parts`.

    All but part number, size and checksum is prepared once for each checksum header in use.
    `upload` is the encoded `uploadId=...`.
    """

    scheme: str
    host: str
    path: str
    upload: str
    grant: Grant
    templates: dict[str, _Template] = field(default_factory=dict)

    def sign(
        self, part_number: int, size: int, checksum: tuple[str, str] | None = None
    ) -> SignedPart:
        """Sign the PUT of one part of exactly `size` bytes.

        `checksum` is a header and its base64 value, such as `("x-amz-checksum-crc32c", "yZRlqg==")`
        or `("content-md5", ...)`: the store then takes no other bytes. Raises InvalidRequest for
        a part number outside 1 to 10,000, a negative size, or what is no checksum.
        """
        if not 1 <= part_number <= MAX_PART_NUMBER:
            raise InvalidRequest(
                f"There is no part number {part_number}.",
                code="part_number_out_of_range",
                hint=f"Part numbers run from 1 to {MAX_PART_NUMBER}.",
            )
        if size < 0:
            raise InvalidRequest(
                "A part cannot have a negative size.",
                code="size_out_of_range",
                hint="Give its length in bytes.",
            )
        name, value = checksum or ("", "")
        template = self.templates.get(name) or self._template(name)
        if checksum and not (name and _BASE64.fullmatch(value)):
            raise InvalidRequest(
                f"The value of {name or 'a header without a name'} is not a checksum.",
                code="invalid_checksum",
                hint="Send the digest in base64, as S3 writes it.",
            )
        canonical_request = template.state.copy()
        canonical_request.update(
            f"{part_number}{template.before_size}{size}{template.before_checksum}{value}"
            f"{template.end}".encode()
        )
        signature = self.grant.sign(canonical_request.hexdigest())
        return SignedPart(
            part_number,
            f"{self.scheme}://{self.host}{self.path}?{self.upload}&partNumber={part_number}"
            f"{template.url_end}{signature}",
            {name: value} if checksum else {},
            size,
            self.grant.expires_at,
        )

    def _template(self, checksum_header: str) -> _Template:
        """Prepare for parts with this checksum header, or for those without one: the empty name."""
        if checksum_header and not _CHECKSUM_HEADER.fullmatch(checksum_header):
            raise InvalidRequest(
                "The checksum of a part is sent in x-amz-checksum-* or content-md5.",
                code="invalid_checksum",
                hint="Write the header's name in small letters.",
            )
        # A header's place follows from its name, and `content-length` comes before all others.
        others = sorted(name for name in ("host", checksum_header) if name)
        names = ";".join(("content-length", *others))
        lines = "".join(f"\n{name}:{self.host if name == 'host' else _GAP}" for name in others)
        before_checksum, _, after_checksum = lines.partition(_GAP)
        authentication = self.grant.authentication(names)
        template = _Template(
            state=sha256(f"PUT\n{self.path}\n{_join(sorted(authentication))}&partNumber=".encode()),
            before_size=f"&{self.upload}\ncontent-length:",
            before_checksum=before_checksum,
            end=f"{after_checksum}\n\n{names}\n{_PAYLOAD}",
            url_end=f"&{_join(authentication)}&X-Amz-Signature=",
        )
        self.templates[checksum_header] = template
        return template


def _join(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in pairs)


def _query_pairs(query: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Encode the operation's own query, in its order."""
    names = [name for name, _ in query]
    if len(set(names)) < len(names) or "" in names:
        raise InvalidRequest(
            "A signed query names each of its parameters once.",
            hint="Stores disagree on the order of repeated names, so they are not signed.",
        )
    if reserved := _RESERVED_QUERY.intersection(name.lower() for name in names):
        raise InvalidRequest(
            f"The signer sets {min(reserved)} by itself.", hint="Leave it out of the query."
        )
    return [(encode(name), encode(value)) for name, value in query]


def _canonical_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Fold names to lower case and runs of white space in the values to one space."""
    folded: dict[str, str] = {}
    for given, value in headers.items():
        name = given.lower()
        if name in _UNSIGNABLE_HEADERS or name in folded or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest(
                f"The header {given!r} cannot be signed.",
                hint="Each header once, and none that proxies or the HTTP client set.",
            )
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidRequest(
                f"The value of the header {name} cannot be signed.",
                hint="HTTP clients agree on printable ASCII only; encode the rest.",
            )
        folded[name] = " ".join(value.split())
    return folded
