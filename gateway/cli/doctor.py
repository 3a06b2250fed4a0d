"""`gateway doctor`: looks at the settings, at Redis and at the store, and says what to do.

It reads the same settings as `gateway serve`, and tries the store with the gateway's own code on
throw-away keys. It sees this machine's way to the store, not that of the clients: a public
endpoint that only they can reach is not tried.
"""

import asyncio
import json as jsons
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from gateway.app import redis_options, s3_options
from gateway.cli.certificate import look_at_certificate
from gateway.cli.findings import Row, document, print_rows
from gateway.cli.flags import with_flags
from gateway.config import Settings, is_loopback, load_settings
from gateway.core.model import StorageLimits
from gateway.errors import GatewayError
from gateway.state.redis.client import connect
from gateway.state.redis.examine import examine
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.expiry import check_expiry
from gateway.storage.s3.findings import Finding, Level
from gateway.storage.s3.permissions import check_permissions
from gateway.storage.s3.policy import Needs, iam_policy
from gateway.storage.s3.probe import probe
from gateway.telemetry import LogOptions, configure_logging

# The probe's own steps are bounded; this bounds their sum with a store that stalls each of them.
_LONGEST_SECONDS: Final = 300.0
_LONG_TOKEN: Final = 20
# Sixteen of a random token's characters differ, and of a word repeated a handful do.
_DIFFERENT: Final = 8
_EXAMPLES: Final = ("replace", "change", "example", "secret", "password")


def _doctor(
    flags: dict[str, Any],
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    policy: Annotated[
        bool,
        typer.Option(
            "--iam-policy",
            help="Print the smallest IAM policy that suffices for these settings, and do no more.",
        ),
    ] = False,
) -> None:
    """Check settings, Redis and the store; print a fix for each gap. Exits with 1 on a failure."""
    configure_logging(LogOptions("error"))
    if policy:
        print(jsons.dumps(iam_policy(_needs(load_settings(flags))), indent=2))
        return
    limits: StorageLimits | None = None
    try:
        settings = load_settings(flags)
    except GatewayError as error:
        rows = [Row("settings", "settings", "fail", error.message, error.hint)]
    else:
        rows, limits = asyncio.run(_examine(settings))
    if json:
        print(jsons.dumps(document(rows, limits)))
    else:
        print_rows(rows)
    if any(row.level == "fail" for row in rows):
        raise typer.Exit(1)


doctor = with_flags(_doctor)


async def _examine(settings: Settings) -> tuple[list[Row], StorageLimits | None]:
    (redis, (store, limits)) = await asyncio.gather(
        _look_at_redis(settings), _look_at_store(settings)
    )
    return [*_look_at(settings), *redis, *store], limits


def _needs(settings: Settings) -> Needs:
    return Needs(
        settings.s3_bucket,
        settings.s3_region,
        any_key=settings.client_keys,
        make_bucket=settings.s3_create_bucket,
    )


def _look_at(settings: Settings) -> list[Row]:
    return [
        _look_at_token(settings),
        *_look_at_encryption(settings),
        *look_at_certificate(settings),
        _look_at_public_endpoint(settings),
    ]


def _look_at_token(settings: Settings) -> Row:
    fix = "Use a random one, such as the output of: openssl rand -hex 32 (GW_TOKEN)."
    if settings.token is None:
        return Row(
            "settings",
            "token",
            "warn",
            "No token: everybody on this machine may use the gateway.",
            fix.replace("Use", "Set"),
        )
    token = settings.token.get_secret_value()
    if any(word in token.lower() for word in _EXAMPLES):
        return Row("settings", "token", "warn", "The token looks like that of an example.", fix)
    if len(token) < _LONG_TOKEN or len(set(token)) < _DIFFERENT:
        return Row("settings", "token", "warn", "The token can be guessed.", fix)
    return Row("settings", "token", "ok", "Callers need a token.")


def _look_at_encryption(settings: Settings) -> list[Row]:
    """See whether tokens travel in the clear, and whether the client behind a proxy is known."""
    public = settings.public_url
    if public is not None and not public.startswith("https:") and not _is_here(public):
        return [
            Row(
                "settings",
                "encryption",
                "warn",
                "Clients reach the gateway by plain http: tokens can be read on the way.",
                "Serve https (tls_cert, tls_key), or let a proxy do so; deploy/nginx.conf is one.",
            )
        ]
    if public is not None and settings.tls_cert is None and not settings.trusted_proxies:
        return [
            Row(
                "settings",
                "encryption",
                "warn",
                "Something in front serves https, and every client has its address in the log.",
                "Name it in trusted_proxies.",
            )
        ]
    if public is None and settings.tls_cert is None and not is_loopback(settings.host):
        return [
            Row(
                "settings",
                "encryption",
                "warn",
                "Other machines reach it by plain http, and nothing in front of it is known.",
                "Set tls_cert and tls_key, or public_url and trusted_proxies for the proxy that "
                "serves https.",
            )
        ]
    return [Row("settings", "encryption", "ok", "No token leaves this machine in the clear.")]


def _look_at_public_endpoint(settings: Settings) -> Row:
    public = s3_options(settings).public_endpoint
    name = public.authority.rpartition(":")[0] or public.authority
    secure = settings.tls_cert is not None or (settings.public_url or "").startswith("https:")
    if secure and public.scheme == "http" and not is_loopback(name):
        return Row(
            "settings",
            "public endpoint",
            "warn",
            f"Part URLs name http://{public.authority}, and pages that came by https may not send "
            "anything there.",
            "Give the store https too, and its address to s3_public_endpoint.",
        )
    elsewhere = not is_loopback(settings.host) or (
        settings.public_url is not None and not _is_here(settings.public_url)
    )
    if is_loopback(name) and elsewhere:
        return Row(
            "settings",
            "public endpoint",
            "warn",
            f"Part URLs name {public.authority}, which other machines cannot reach.",
            "Set s3_public_endpoint to the store's address as clients see it.",
        )
    return Row("settings", "public endpoint", "ok", f"Part URLs name {public.authority}.")


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


async def _look_at_redis(settings: Settings) -> list[Row]:
    try:
        options = redis_options(settings)
        client = connect(options)
    except GatewayError as error:
        return [Row("redis", "redis", "fail", error.message, error.hint)]
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            found = await examine(client, prefix=settings.redis_prefix)
    finally:
        await client.close()
    rows = [Row("redis", item.name, item.level, item.detail, item.fix) for item in found]
    return [
        replace(row, detail=f"{options.place}: {row.detail}") if row.name == "redis" else row
        for row in rows
    ]


async def _look_at_store(settings: Settings) -> tuple[list[Row], StorageLimits | None]:
    try:
        async with asyncio.timeout(_LONGEST_SECONDS), S3Client(s3_options(settings)) as client:
            findings, limits = await _try_store(client, settings)
    except TimeoutError:
        return [
            Row(
                "store",
                "store",
                "fail",
                f"It was not through after {_LONGEST_SECONDS:.0f} s.",
                "Look at the store's load and log.",
            )
        ], None
    except GatewayError as error:
        return [Row("store", "store", "fail", error.message, error.hint)], None
    return [Row("store", f.name, str(f.level), f.detail, f.fix) for f in findings], limits


async def _try_store(
    client: S3Client, settings: Settings
) -> tuple[list[Finding], StorageLimits | None]:
    allowed = await check_permissions(client, _needs(settings))
    if any(finding.level is Level.FAIL for finding in allowed):
        # What follows would fail for the same reason, and say less.
        return allowed, None
    report = await probe(client, settings.s3_bucket, origins=_origins(settings))
    if not report.usable:
        return [*allowed, *report.findings], None
    expiry = await check_expiry(
        client,
        settings.s3_bucket,
        lifetime=timedelta(seconds=settings.session_lifetime),
        grace=timedelta(seconds=settings.grace),
    )
    return [*allowed, *report.findings, expiry], report.limits


def _origins(settings: Settings) -> list[str]:
    """Name the pages that send parts: the gateway's own, where it is known, and the allowed ones."""
    if settings.public_url is not None:
        return [settings.public_url, *settings.cors_origins]
    known = is_loopback(settings.host) and settings.port != 0
    scheme = "http" if settings.tls_cert is None else "https"
    own = [f"{scheme}://{settings.host}:{settings.port}"] if known else []
    return [*own, *settings.cors_origins]
