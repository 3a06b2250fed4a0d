"""Every setting of the gateway: one frozen object, validated before anything is started.

A setting comes from the first of these that names it: a flag (`--s3-bucket`), the environment
(`GW_S3_BUCKET`), the AWS standard variables (`AWS_REGION` and the like, for the store), the TOML
file (`s3_bucket = "..."`), its default. Credentials of the store are taken together from one of
these, so that a session token never meets another's access key. A secret may also lie in a file
that the environment names (`GW_TOKEN_FILE`), as Docker and Kubernetes hand them out.

No layer below reads this module: `app` hands each the options it needs. Nothing here connects to
anything, so a setting that is well-formed may still be wrong; `gateway doctor` finds that out.

The module is longer than others: every setting has its words here, and all are in one place.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.core.content.policy import ContentPolicy
from gateway.delivery.signing import signing_key
from gateway.errors import InvalidRequest

ENV_PREFIX: Final = "GW_"

# The names that AWS's own tools read; the first that is set counts.
# https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html
AWS_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "s3_endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "s3_access_key_id": ("AWS_ACCESS_KEY_ID",),
    "s3_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "s3_session_token": ("AWS_SESSION_TOKEN",),
}
_CREDENTIALS: Final = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token")

# What may lie in a file that a variable of this ending names: Docker's convention for secrets
# (docs.docker.com/compose/how-tos/use-secrets).
SECRETS: Final = (
    "token",
    *_CREDENTIALS,
    "redis_url",
    "redis_password",
    "redis_sentinel_password",
    "webhook_url",
    "webhook_secret",
)
_FILE_SUFFIX: Final = "_FILE"
_MAX_SECRET_BYTES: Final = 65_536
_REDIS_SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{unit}b": 1000**power for power, unit in enumerate("kmgt", 1)},
    **{f"{unit}ib": 1024**power for power, unit in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]*)", re.ASCII)
_MAX_URL_LIFETIME: Final = 604_800  # Seconds; SigV4 allows a presigned URL no more (laws.md).
_YEAR: Final = 366 * 86_400
_MIN_TOKEN: Final = 8
_MIN_WEBHOOK_SECRET: Final = 16
_MAX_WEBHOOKS: Final = 8


def parse_duration(value: object) -> object:
    """Return seconds for `900`, `"900"`, `"15m"`, `"24h"` or `"7d"`; other things unchanged."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("write seconds, or a number with s, m, h or d: 90, 15m, 24h, 7d")
        return float(match[1]) * _UNITS[match[2] or "s"]
    return value


def duration_text(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them, in the largest unit that is whole."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


def parse_size(value: object) -> object:
    """Return bytes for `1048576`, `"500MB"` (of 1,000) or `"8 MiB"` (of 1,024); others unchanged."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip().lower())
        if match is None or match[2] not in _SIZE_UNITS:
            raise ValueError("write bytes, or a number with a unit: 500000, 500MB, 8MiB, 2.5GiB")
        return int(Fraction(match[1]) * _SIZE_UNITS[match[2]])
    return value


def _split(value: object) -> object:
    return (
        [item for item in re.split(r"[,\s]+", value) if item] if isinstance(value, str) else value
    )


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Bytes = Annotated[int, BeforeValidator(parse_size)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What one gateway process runs on. Durations are seconds, or texts such as 15m, 24h, 7d."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    config: Path | None = Field(None, description="TOML file with any of these settings.")

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Anything but loopback needs a token.",
    )
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(
        1, ge=1, le=256, description="Processes that share the port; about one per core."
    )
    token: SecretStr | None = Field(
        None,
        description="Bearer token that every caller must send, at least 8 characters. Without one "
        "callers need none, and only loopback is served.",
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate to serve https with, intermediates after it. "
        "Read again when it changes, and on SIGHUP. Unset: plain http.",
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the certificate's private key, without a passphrase."
    )
    public_url: str | None = Field(
        None,
        description="The gateway as clients reach it, where something stands in front of it: "
        "https://uploads.example.com.",
    )
    trusted_proxies: Texts = Field(
        (),
        description="Addresses and networks (10.0.0.0/8) of the proxies in front, whose word on "
        "the client's address and scheme is taken. Headers of all others are ignored.",
    )
    proxy_header: Literal["x-forwarded-for", "forwarded"] = Field(
        "x-forwarded-for",
        description="The header in which trusted_proxies tell the client: x-forwarded-for (and "
        "x-forwarded-proto), or forwarded (RFC 7239).",
    )
    cors_origins: Texts = Field(
        (),
        description="Origins of web pages that may call the API, exact, separated by commas: "
        "https://app.example.com.",
    )

    s3_endpoint: str | None = Field(
        None, description="URL of the store as the gateway reaches it. Unset: Amazon S3."
    )
    s3_public_endpoint: str | None = Field(
        None,
        description="URL of the store as clients reach it, put into presigned URLs. "
        "Unset: the same as s3_endpoint.",
    )
    s3_region: str = Field("us-east-1", description="Region to sign for; R2 says auto.")
    s3_bucket: str = Field(
        min_length=3,
        max_length=255,
        description="Bucket for uploads. It has to exist, unless s3_create_bucket is on.",
    )
    s3_create_bucket: bool = Field(
        default=False,
        description="Make the bucket at the start where it is missing, open to pages of "
        "cors_origins.",
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Where the bucket goes in a URL: path, or virtual (in the host name). "
        "auto: virtual for Amazon, path for others.",
    )
    s3_access_key_id: str | None = Field(
        None,
        description="Access key. Unset: the AWS credential chain (profile, role, metadata).",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, description="Secret of the access key. Better set by environment or file."
    )
    s3_session_token: SecretStr | None = Field(
        None, description="Session token that belongs to a temporary access key."
    )

    s3_verify_tls: bool = Field(
        default=True, description="Check the store's TLS certificate. Off is for test stores only."
    )

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey: redis://, rediss:// (TLS) or unix://, with user and password "
        "in the URL. By Sentinel: redis+sentinel://host1:26379,host2:26379/mymaster/0, or "
        "rediss+sentinel:// (TLS to both).",
    )
    redis_password: SecretStr | None = Field(
        None, description="Password for Redis, where redis_url holds none; nothing is encoded."
    )
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password for the Sentinels. Unset: they want none."
    )
    redis_ca: Path | None = Field(
        None,
        description="PEM file of the authority that signed Redis's certificate. Unset: those that "
        "this system trusts.",
    )
    redis_prefix: str = Field(
        "gw",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="Start of every key in Redis; gateways that share a bucket share it.",
    )

    url_lifetime: Seconds = Field(
        900, ge=10, le=_MAX_URL_LIFETIME, description="Life of a presigned URL."
    )
    session_lifetime: Seconds = Field(
        7 * 86_400,
        ge=60,
        le=_YEAR,
        description="Time an upload may take. Set less than the store keeps unfinished uploads.",
    )
    grace: Seconds = Field(
        86_400,
        ge=0,
        le=_YEAR,
        description="Time an expired upload is still kept before its parts are deleted.",
    )
    retention: Seconds = Field(
        30 * 86_400,
        ge=60,
        le=10 * _YEAR,
        description="Time a completed or closed upload stays in the list. Objects stay for good.",
    )
    client_keys: bool = Field(
        default=False, description="Let clients choose bucket and key of their objects."
    )
    chunks_principal: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._@-]{1,64}$",
        description="Name under which calls of /upload-chunk and /administration/upload without "
        "credentials are taken. Unset: they need the token, where there is one.",
    )
    allowed_types: Texts = Field(
        (),
        description="File types that are taken, separated by commas: extensions and media types, "
        "such as .mrc,.nii.gz,image/*. First bytes must be those of the type; */* takes every "
        "name, and checks them too. None: everything is taken unseen.",
    )
    max_file_size: Bytes | None = Field(
        None,
        ge=1,
        description="Largest file that is taken, in bytes or such as 500MB, 20GiB. Unset: what "
        "the store takes.",
    )

    memory: Bytes = Field(
        64 * 1024**2,
        ge=8 * 1024**2,
        le=1024**4,
        description="Memory of one worker for the buffers of bytes that pass through it. Whoever "
        "needs more than is left waits.",
    )
    staging_limit: Bytes = Field(
        1024**4,
        ge=1024**2,
        description="Bytes of all uploads together that may lie in the store waiting to become "
        "parts: chunks of older clients, mostly.",
    )

    events_kept: int = Field(
        10_000,
        ge=100,
        le=10_000_000,
        description="Events that the stream keeps for its readers, about; each takes 0.5 KB or more.",
    )
    webhook_url: Secrets = Field(
        (),
        max_length=_MAX_WEBHOOKS,
        description="URLs that every event is posted to, separated by commas. Of https, and at "
        "public addresses, but for webhook_allow_hosts.",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="What webhooks are signed with, at least 16 characters: any text, or whsec_ "
        "and base64.",
    )
    webhook_allow_hosts: Texts = Field(
        (),
        description="Hosts of webhook_url that may have private addresses and speak plain http, "
        "names or addresses as they stand in the URL.",
    )
    webhook_retry_for: Seconds = Field(
        86_400,
        ge=1,
        le=30 * 86_400,
        description="Time for which an event is tried again at a webhook that fails, before it is "
        "given up.",
    )
    webhook_retention: Seconds = Field(
        30 * 86_400,
        ge=60,
        le=10 * _YEAR,
        description="Time an event that was given up is kept, to be replayed.",
    )

    drain_timeout: Seconds = Field(
        30, ge=0, le=3600, description="Time for running requests to end after SIGTERM."
    )
    drain_delay: Seconds = Field(
        0,
        ge=0,
        le=600,
        description="Time between reporting not ready and no longer accepting, for a load balancer "
        "to notice.",
    )
    header_timeout: Seconds = Field(
        15, ge=1, le=600, description="Time for a client to send the head of a request."
    )
    body_grace: Seconds = Field(
        15, ge=1, le=3600, description="Time in which the body of a request may come at any pace."
    )
    body_min_rate: int = Field(
        16_384,
        ge=1,
        description="Bytes per second that a body must reach after that, on average.",
    )
    idle_timeout: Seconds = Field(
        75, ge=1, le=3600, description="Time a connection may be idle between two requests."
    )
    max_connections: int = Field(
        4096, ge=1, le=1_000_000, description="Connections that one worker serves at a time."
    )
    loop_heartbeat: Seconds = Field(
        0.25,
        ge=0.001,
        le=60,
        description="Time between two looks at how late the event loop is, for the metrics. "
        "Shorter ones miss less and cost more.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged: debug, info, warning or error."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="Log lines as text or json. auto: text on a terminal, else json."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library hands it over.
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same.
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources as the module's docstring says."""
        flags = init_settings() if isinstance(init_settings, InitSettingsSource) else {}
        return (
            init_settings,
            _CredentialsTogether(settings_cls, {**env_settings(), **_secret_files()}),
            _CredentialsTogether(settings_cls, _aws_environment()),
            _CredentialsTogether(
                settings_cls, _read_toml(flags.get("config") or env_settings().get("config"))
            ),
        )

    @field_validator("allowed_types")
    @classmethod
    def _types(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(ContentPolicy(entries).allowed_types)

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                raise ValueError(
                    "write each origin as a browser sends it: scheme, host and port in small "
                    "letters, no path, no asterisk, such as https://app.example.com"
                )
        return origins

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is not None:
            split = urlsplit(url)
            if (
                split.scheme not in {"http", "https"}
                or not split.hostname
                or split.username is not None
                or split.query
                or split.fragment
            ):
                raise ValueError(
                    "write it like https://s3.example.com:9000, without user, query or fragment"
                )
        return url

    @field_validator("public_url")
    @classmethod
    def _an_origin(cls, url: str | None) -> str | None:
        if url is not None:
            url = url.rstrip("/")
            if not _is_origin(url):
                raise ValueError(
                    "write scheme, host and port in small letters, and no path: the gateway needs "
                    "a host name of its own, such as https://uploads.example.com"
                )
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                found = ip_network(network)
            except ValueError:
                raise ValueError(
                    "write addresses or networks, such as 127.0.0.1, 10.0.0.0/8 or fd00::/8; a "
                    "network has no bits set behind its prefix"
                ) from None
            if found.prefixlen == 0:
                raise ValueError("everybody cannot be trusted: name the networks of the proxies")
        return networks

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(_REDIS_SCHEMES):
            raise ValueError(
                "write it like redis://:password@host:6379/0, unix:///run/redis.sock or "
                "redis+sentinel://:password@host1:26379,host2:26379/mymaster/0"
            )
        return url

    @field_validator("webhook_allow_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            try:
                same = _host_of(f"//{_in_url(host)}") == host.lower()
            except ValueError:
                same = False
            if not same:
                raise ValueError(
                    "write names or addresses without scheme, port or path, such as "
                    "hooks.internal, 10.0.0.7 or ::1"
                )
        return tuple(host.lower() for host in hosts)

    @field_validator("webhook_secret")
    @classmethod
    def _strong_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            text = secret.get_secret_value()
            if len(text) < _MIN_WEBHOOK_SECRET or not text.isascii() or not text.isprintable():
                raise ValueError(
                    "use at least 16 printable ASCII characters, best random: `openssl rand -hex 32`"
                )
            signing_key(text)
        return secret

    @field_validator("token")
    @classmethod
    def _sendable_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None:
            text = token.get_secret_value()
            if len(text) < _MIN_TOKEN or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", text):
                raise ValueError(
                    "use at least 8 letters, digits and ._~+/=- (RFC 6750), best random: "
                    "`openssl rand -hex 32`"
                )
        return token

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"without a token only loopback is served, not {self.host}; set a token "
                "(--token, GW_TOKEN), or listen on 127.0.0.1"
            )
        if self.token is None and self.public_url and not is_loopback(_host_of(self.public_url)):
            raise ValueError(
                "without a token only loopback is served, and public_url is elsewhere; set a token "
                "(--token, GW_TOKEN), which a proxy that knows its users can add to their requests"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key come together; set both, or neither")
        self._check_redis()
        self._check_webhooks()
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError(
                "s3_access_key_id and s3_secret_access_key come together; set both, or neither to "
                "use the AWS credential chain"
            )
        if self.s3_session_token is not None and self.s3_access_key_id is None:
            raise ValueError("s3_session_token belongs to an access key; set s3_access_key_id too")
        return self

    def _check_redis(self) -> None:
        url = self.redis_url.get_secret_value()
        try:
            has_password = bool(urlsplit(url).password)
        except ValueError:
            # The error holds the URL, and the password in it.
            raise ValueError("redis_url is no URL; percent-encode what is odd in it") from None
        if self.redis_password is not None and has_password:
            raise ValueError(
                "redis_password is set, and redis_url holds a password too; keep one of them"
            )
        if self.redis_ca is not None and not url.startswith("rediss"):
            raise ValueError(
                "redis_ca is for TLS; write redis_url with rediss:// or rediss+sentinel://"
            )
        if self.redis_sentinel_password is not None and "+sentinel://" not in url:
            raise ValueError(
                "redis_sentinel_password is for Sentinels; write redis_url as redis+sentinel://"
            )

    def _check_webhooks(self) -> None:
        if self.webhook_url and self.webhook_secret is None:
            raise ValueError("webhook_url needs webhook_secret, which proves who sends the events")
        for url in self.webhook_url:
            text = url.get_secret_value()
            try:
                split = urlsplit(text)
                _ = split.port  # Raises where it is none.
            except ValueError:
                # The error holds the URL, and what is secret in it.
                raise ValueError("webhook_url is no URL") from None
            usable = split.scheme in {"http", "https"} and split.hostname and not split.fragment
            if not (usable and text.isascii() and text.isprintable()):
                raise ValueError(
                    "webhook_url: write each like https://hooks.example.com/uploads, in ASCII, "
                    "without a fragment"
                )
            if split.scheme == "http" and split.hostname not in self.webhook_allow_hosts:
                raise ValueError(
                    "webhook_url: only hosts of webhook_allow_hosts may be called by plain http"
                )


def _in_url(host: str) -> str:
    """Write a host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _is_origin(text: str) -> bool:
    """Tell whether it is scheme, host and perhaps a port, as a browser would write them."""
    try:
        split = urlsplit(text)
        _ = split.port  # Raises where it is none.
    except ValueError:
        return False
    return (
        split.scheme in {"http", "https"}
        and bool(split.hostname)
        and split.username is None
        and "*" not in text
        and text == f"{split.scheme}://{split.netloc}" == text.lower()
    )


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach what listens on the host."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """Read all sources, `flags` first (None in them means not given).

    Raises InvalidRequest `invalid_settings` that names each setting and what it should be, and
    never repeats a value, which may be a secret.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [_problem(item["loc"], item["msg"]) for item in error.errors()]
        raise InvalidRequest(
            "The settings are not usable: " + "; ".join(problems) + ".",
            code="invalid_settings",
            hint="`gateway serve --help` lists every setting.",
            details={"problems": problems},
        ) from None


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """How one setting is written on the command line, in the environment, and in documents."""

    name: str
    flag: str
    variables: tuple[str, ...]
    default: str
    description: str
    switch: bool


def document() -> list[SettingDoc]:
    """Describe every setting in order, for flags, help texts and the README."""
    return [
        SettingDoc(
            name=name,
            flag="--" + name.replace("_", "-"),
            variables=(
                ENV_PREFIX + name.upper(),
                *((_file_variable(name),) if name in SECRETS else ()),
                *AWS_VARIABLES.get(name, ()),
            ),
            default=_default_text(name),
            description=info.description or "",
            switch=info.annotation is bool,
        )
        for name, info in Settings.model_fields.items()
    ]


class _CredentialsTogether(PydanticBaseSettingsSource):
    """One source, whose credentials count only where no source before it has any."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return one value; the base class asks for this method."""
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        taken = any(name in self.current_state for name in _CREDENTIALS)
        return {
            name: value
            for name, value in self._values.items()
            if not (taken and name in _CREDENTIALS)
        }


def _aws_environment() -> dict[str, str]:
    found = {}
    for name, variables in AWS_VARIABLES.items():
        value = next((os.environ[v] for v in variables if os.environ.get(v)), None)
        if value is not None:
            found[name] = value
    return found


def _file_variable(name: str) -> str:
    return ENV_PREFIX + name.upper() + _FILE_SUFFIX


def _secret_files() -> dict[str, str]:
    """Read the secrets whose files the environment names. What is in a file is never repeated."""
    found = {}
    for name in SECRETS:
        variable, plain = _file_variable(name), ENV_PREFIX + name.upper()
        path = os.environ.get(variable)
        if not path:
            continue
        if os.environ.get(plain):
            raise _unusable_file(variable, f"{plain} is set too; keep one of them")
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise _unusable_file(variable, f"{path} cannot be read: {error.strerror}") from error
        try:
            text = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            # The error holds the content; it must not come along into a log.
            raise _unusable_file(variable, f"{path} is not text in UTF-8") from None
        if not text or len(content) > _MAX_SECRET_BYTES or "\n" in text:
            raise _unusable_file(variable, f"{path} does not hold one line of text")
        found[name] = text
    return found


def _unusable_file(variable: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"The settings are not usable: {variable}: {why}.",
        code="invalid_settings",
        hint=f"{variable} names a file that holds the secret and nothing else.",
    )


def _read_toml(path: Any) -> dict[str, Any]:
    if path is None:
        return {}
    hint = "Give --config or GW_CONFIG the path of a readable TOML file."
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InvalidRequest(
            f"The settings file {path} cannot be read: {error.strerror}.",
            code="invalid_settings",
            hint=hint,
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The settings file {path} is not TOML: {error}.", code="invalid_settings", hint=hint
        ) from error


def _problem(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    name = str(location[0]) if location else ""
    if name in Settings.model_fields:
        return f"{name} ({ENV_PREFIX}{name.upper()}): {message}"
    return f"{name}: there is no such setting" if name else message


@lru_cache(maxsize=1)
def _durations() -> frozenset[str]:
    return frozenset(
        name
        for name, info in Settings.model_fields.items()
        if any(getattr(item, "func", None) is parse_duration for item in info.metadata)
    )


def _default_text(name: str) -> str:
    info = Settings.model_fields[name]
    if info.is_required():
        return "required"
    default = info.default
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if default is None or default == ():
        return "none"
    if name in _durations():
        return duration_text(default)
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)
