"""How to reach one S3 store: what the composition root hands to this package."""

from dataclasses import dataclass, field
from typing import Literal

from gateway.errors import InvalidRequest
from gateway.storage.s3.credentials import Credentials
from gateway.storage.s3.endpoint import Addressing, Endpoint


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where a store is and how long to wait for it; times are in seconds.

    `endpoint_url` is how the gateway reaches the store (None: Amazon S3 in the region), and
    `public_endpoint_url` what presigned URLs name (None: the same). `addressing` "auto" puts the
    bucket into the host name for Amazon and into the path elsewhere. Without `access_key_id` the
    AWS credential chain is asked, and asked again whenever its credentials run out.

    `read_timeout` bounds a silence, `call_timeout` one whole call but for reading an object and
    for Complete, which "can take several minutes" at Amazon
    (docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).

    Raises InvalidRequest for addresses and credentials that cannot be used, and ValueError for
    times and numbers that are not positive.
    """

    region: str = "us-east-1"
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    verify_tls: bool = True
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    call_timeout: float = 60.0
    complete_timeout: float = 900.0
    max_connections: int = 64

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise InvalidRequest(
                "The storage credentials are incomplete.",
                hint="Set both the access key id and the secret access key, or neither.",
            )
        limits = (
            self.connect_timeout,
            self.read_timeout,
            self.call_timeout,
            self.complete_timeout,
            self.max_connections,
        )
        if min(limits) <= 0:
            raise ValueError("Timeouts and the number of connections must be positive.")
        # Both are parsed here, so that a bad address fails before anything is opened.
        _ = self.endpoint, self.public_endpoint, self.static_credentials

    @property
    def endpoint(self) -> Endpoint:
        """The store as the gateway reaches it."""
        return self._parse(self.endpoint_url)

    @property
    def public_endpoint(self) -> Endpoint:
        """The store as clients reach it."""
        return self._parse(self.public_endpoint_url or self.endpoint_url)

    @property
    def static_credentials(self) -> Credentials | None:
        """The credentials given here, or None where the AWS credential chain is to be asked."""
        if self.access_key_id is None or self.secret_access_key is None:
            return None
        return Credentials(self.access_key_id, self.secret_access_key, self.session_token)

    def _parse(self, url: str | None) -> Endpoint:
        # China has its own suffix (docs.aws.amazon.com/general/latest/gr/s3.html).
        suffix = ".cn" if self.region.startswith("cn-") else ""
        amazon = f"https://s3.{self.region}.amazonaws.com{suffix}"
        parsed = Endpoint.parse(url or amazon)
        is_amazon = parsed.authority.removesuffix(".cn").endswith(".amazonaws.com")
        addressing: Addressing = "virtual" if is_amazon else "path"
        if self.addressing != "auto":
            addressing = self.addressing
        return Endpoint(parsed.scheme, parsed.authority, parsed.base_path, addressing)
