"""Where an S3 store is reached, and how a bucket and a key become a host and a path there.

Pure: nothing is resolved or connected to. It does not promise that the store answers at that
address, nor that it knows the addressing style; the probe finds that out.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Literal, Self
from urllib.parse import quote, urlsplit

from gateway.core.model import MAX_KEY_BYTES
from gateway.errors import InvalidRequest

Addressing = Literal["path", "virtual"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A host name (small letters; an underscore is not DNS, but container networks use it) or an IPv6
# address in brackets, and a port.
_AUTHORITY = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)
_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
# Old AWS buckets, and some other stores, allow more than DNS does; a host name allows no more.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a store is reached, and how a bucket is addressed there.

    `authority` is the Host header: lower case, the port only where it is not the scheme's default,
    IPv6 in brackets. `base_path` is empty or starts with a slash and does not end with one.
    """

    scheme: Literal["http", "https"]
    authority: str
    base_path: str = ""
    addressing: Addressing = "path"

    def __post_init__(self) -> None:
        if self.scheme not in _DEFAULT_PORTS or not _AUTHORITY.fullmatch(self.authority):
            raise _malformed()
        if not _BASE_PATH.fullmatch(self.base_path):
            raise InvalidRequest(
                "The path of the storage endpoint has characters that cannot be signed safely.",
                hint="Use letters, digits, dots, dashes and single slashes only.",
            )
        if self.addressing == "virtual" and _is_ip(self.authority):
            raise InvalidRequest(
                "An IP address cannot carry the bucket in its host name.",
                hint="Use path-style addressing, or an endpoint with a host name.",
            )

    @classmethod
    def parse(cls, url: str, *, addressing: Addressing = "path") -> Self:
        """Read an endpoint URL such as `https://s3.example.com:9000/base`.

        Raises InvalidRequest for anything but a plain http or https URL of a host. The message
        never repeats the URL, which may hold a password.
        """
        malformed = _malformed()
        try:
            split = urlsplit(url)
            host, port = split.hostname or "", split.port
        except ValueError as error:
            raise malformed from error
        if split.scheme not in _DEFAULT_PORTS or port == 0:
            raise malformed
        if split.query or split.fragment or split.username is not None or not url.isprintable():
            raise malformed
        if ":" in host:
            try:
                # A zone such as %eth0 means nothing to the other side, so it is refused too.
                IPv6Address(host if "%" not in host else "")
            except AddressValueError as error:
                raise malformed from error
            host = f"[{host}]"
        scheme: Literal["http", "https"] = "https" if split.scheme == "https" else "http"
        explicit = port is not None and port != _DEFAULT_PORTS[scheme]
        authority = f"{host}:{port}" if explicit else host
        return cls(scheme, authority, split.path.rstrip("/"), addressing)

    def locate(self, bucket: str, key: str) -> tuple[str, str]:
        """Return the Host header and the percent-encoded path of an object.

        Raises InvalidRequest where the bucket does not fit the addressing, or the key is not a
        key: empty (the URL would then mean the bucket itself), too long, or not encodable.
        """
        virtual = self.addressing == "virtual"
        if not (_DNS_BUCKET if virtual else _BUCKET).fullmatch(bucket):
            raise InvalidRequest(
                "The bucket's name cannot be put into a URL of this endpoint.",
                hint="Bucket names have 3 to 63 small letters, digits, dots and dashes; "
                "names beyond that need path-style addressing.",
                details={"bucket": bucket},
            )
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "The key is not valid Unicode.",
                code="invalid_key",
                hint="Use text that can be written as UTF-8.",
            ) from error
        if not 1 <= size <= MAX_KEY_BYTES:
            raise InvalidRequest(
                f"The key has {size} bytes; 1 to {MAX_KEY_BYTES} are allowed.",
                code="invalid_key",
                hint="Choose another key.",
            )
        path = quote(key, safe="/")
        if virtual:
            return f"{bucket}.{self.authority}", f"{self.base_path}/{path}"
        return self.authority, f"{self.base_path}/{bucket}/{path}"


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "The storage endpoint is not a plain http or https URL.",
        hint="Write it like https://s3.example.com:9000, without user, query or fragment; "
        "international host names in their xn-- form.",
    )


def _is_ip(authority: str) -> bool:
    """Tell whether a Host header names an IP address."""
    if authority.startswith("["):
        return True
    try:
        IPv4Address(authority.partition(":")[0])
    except AddressValueError:
        return False
    return True
