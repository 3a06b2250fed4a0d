"""The composition root: which storages and doors there are, and how a process is put together.

Here alone everything is known to everything: the settings are cut into the options of each layer,
adapters are plugged into the core's ports, doors onto one aiohttp application. The application
starts also while Redis or the store is away: it listens, says that it is not ready, answers calls
with 503 and Retry-After, and keeps trying.

The module is longer than others: everything meets here, and nothing is decided.
"""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from gateway.config import Settings
from gateway.core.access import Principal
from gateway.core.clock import SystemClock
from gateway.core.composition import Core, CoreOptions, Ports, compose
from gateway.core.content.policy import ContentPolicy
from gateway.core.creation import CreatorOptions
from gateway.core.health import Check
from gateway.core.model import StorageLimits
from gateway.core.ports import ObjectStore, Storage
from gateway.core.service import ServiceOptions, UploadService
from gateway.core.sweeper import SweeperOptions
from gateway.dashboard.routes import PAGE_OPERATIONS, DashboardOptions
from gateway.dashboard.routes import routes as dashboard_routes
from gateway.delivery.deliverer import Deliverer, DelivererOptions
from gateway.delivery.signing import signing_key
from gateway.delivery.webhooks import Endpoint, WebhookOptions, Webhooks
from gateway.doors.chunks import ChunksDoor, ChunksOptions
from gateway.doors.native import NativeDoor, NativeOptions
from gateway.errors import GatewayError, Unavailable
from gateway.state.redis.address import RedisOptions
from gateway.state.redis.chunks import RedisChunkStore
from gateway.state.redis.client import Client, connect
from gateway.state.redis.events import RedisEventStream, RedisLetters, RedisOutbox
from gateway.state.redis.examine import refuse_cluster
from gateway.state.redis.leases import RedisLeases
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions
from gateway.storage.metered import MeteredObjectStore, MeteredStorage
from gateway.storage.retrying import RetryingObjectStore, RetryingStorage
from gateway.storage.s3.bucket import ensure_bucket, put_cors
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.objects import S3ObjectStore
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.presigner import S3Presigner
from gateway.storage.s3.probe import probe
from gateway.storage.s3.storage import S3Storage
from gateway.storage.sidecars import ObjectSidecars
from gateway.telemetry import Metrics
from gateway.web.auth import authenticator
from gateway.web.bodies import PACE, BodyPace
from gateway.web.cors import Cors
from gateway.web.door import Door, DoorTable
from gateway.web.draining import Drain, Stop
from gateway.web.forwarding import FRONT, Front, FrontReader
from gateway.web.gate import Gate
from gateway.web.health import HEALTH_OPERATIONS, health_routes
from gateway.web.heartbeat import Heartbeat
from gateway.web.limits import ServerOptions, make_runner
from gateway.web.openapi import OPENAPI_OPERATIONS, assemble, openapi_routes
from gateway.web.pipeline import install
from gateway.web.tls import Certificate, TLSSite
from gateway.web.turns import TURNS, Turns

log = structlog.get_logger(__name__)

# Seconds. Those who ask for readiness rarely wait longer than this.
_CHECK_SECONDS: Final = 2.0
# For what is written after a handler has returned; the drain itself waits for handlers.
_LAST_BYTES_SECONDS: Final = 0.5
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Store:
    """One storage backend, not opened yet: what the core and this module need of it.

    `open` holds its connections. `make_bucket` tells whether the bucket was missing, and
    `open_to_pages` lets those of the origins send parts; both may be called again. `probe` finds out what the store can do, and raises where uploads cannot work.
    `page_origins` are the origins of presigned URLs.
    """

    storage: Storage
    objects: ObjectStore
    open: Callable[[], AbstractAsyncContextManager[Any]]
    make_bucket: Callable[[], Awaitable[bool]]
    open_to_pages: Callable[[Sequence[str]], Awaitable[None]]
    probe: Callable[[], Awaitable[StorageLimits]]
    page_origins: tuple[str, ...]


def s3_options(settings: Settings) -> S3Options:
    """Cut out what the S3 storage needs."""
    secret, token = settings.s3_secret_access_key, settings.s3_session_token
    return S3Options(
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint,
        public_endpoint_url=settings.s3_public_endpoint,
        addressing=settings.s3_addressing,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        session_token=token.get_secret_value() if token else None,
        verify_tls=settings.s3_verify_tls,
    )


def redis_options(settings: Settings) -> RedisOptions:
    """Cut out what the connection to Redis needs."""
    password, of_sentinels = settings.redis_password, settings.redis_sentinel_password
    return RedisOptions(
        url=settings.redis_url.get_secret_value(),
        password=password.get_secret_value() if password else None,
        sentinel_password=of_sentinels.get_secret_value() if of_sentinels else None,
        ca=settings.redis_ca,
    )


def certificate(settings: Settings) -> Certificate | None:
    """Load what https is served with, or return None for plain http."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _s3(settings: Settings) -> Store:
    bucket = settings.s3_bucket
    client = S3Client(s3_options(settings))
    public = client.options.public_endpoint
    host, _ = public.locate(bucket, "key")

    async def find_limits() -> StorageLimits:
        report = await probe(client, bucket)
        failed = next((f for f in report.findings if f.level == "fail"), None)
        if failed is not None:
            raise Unavailable(
                f"The store cannot be used: {failed.detail}",
                code="store_unusable",
                hint=failed.fix,
                details={"finding": failed.name},
            )
        return report.limits

    return Store(
        storage=S3Storage(client, presigner=S3Presigner(client)),
        objects=S3ObjectStore(client),
        open=lambda: client,
        make_bucket=lambda: ensure_bucket(client, bucket),
        open_to_pages=lambda origins: put_cors(client, bucket, origins),
        probe=find_limits,
        page_origins=(f"{public.scheme}://{host}",),
    )


def _native(service: UploadService, _settings: Settings) -> Door:
    return NativeDoor(service, NativeOptions(version=version("multipart-gateway")))


def _chunks(service: UploadService, settings: Settings) -> Door:
    name = settings.chunks_principal
    return ChunksDoor(service, ChunksOptions(principal=Principal(name) if name else None))


STORAGES: Final[Mapping[str, Callable[[Settings], Store]]] = {"s3": _s3}
DOORS: Final[Mapping[str, Callable[[UploadService, Settings], Door]]] = {
    "native": _native,
    "chunks": _chunks,
}


GATE: Final = web.AppKey("gate", Gate)
_DRAIN: Final = web.AppKey("drain", Drain)
_METRICS: Final = web.AppKey("metrics", Metrics)
_DOORS: Final = web.AppKey("doors", DoorTable)


def build_app(
    settings: Settings,
    *,
    stop: Stop | None = None,
    bucket_origins: Sequence[str] | None = None,
) -> web.Application:
    """Put the application together; nothing is opened before it starts.

    `stop` is how it learns that it is to drain. With `bucket_origins` the bucket is made, for pages
    of these origins, before the application is ready.
    """
    stop = stop or Stop()
    store = STORAGES["s3"](settings)
    redis = connect(redis_options(settings))
    metrics = Metrics()
    ports = _ports(settings, store, redis, metrics)
    core = compose(ports, _core_options(settings))
    _show_figures(core, metrics)
    doors = DoorTable([make(core.service, settings) for make in DOORS.values()])
    gate = Gate()

    async def checks() -> Mapping[str, Check]:
        return {**await core.service.check(), "startup": gate.check()}

    async def attempt() -> None:
        await ports.sessions.ping()
        await refuse_cluster(redis)
        await _prepare_bucket(store, settings, bucket_origins)
        ports.storage.limits = await store.probe()

    app = web.Application()
    app[GATE] = gate
    app[_METRICS] = metrics
    app[FRONT] = FrontReader(
        Front(settings.public_url, settings.trusted_proxies, settings.proxy_header)
    )
    app[TURNS] = Turns()
    app[PACE] = BodyPace(grace=settings.body_grace, min_rate=settings.body_min_rate)
    app.router.add_routes(health_routes(checks, metrics, draining=lambda: stop.draining))
    app.router.add_routes(dashboard_routes(DashboardOptions(store.page_origins)))
    app.router.add_routes(openapi_routes(api_document(doors)))
    token = settings.token.get_secret_value() if settings.token else None
    install(
        app,
        doors,
        # The upload page may be opened under the public address.
        authenticator=authenticator(token, _page_origins(settings)),
        cors=Cors(settings.cors_origins),
        metrics=metrics,
    )
    # The innermost, so that a stranger learns nothing but that a token is needed.
    app.middlewares.append(gate.middleware(doors))
    app[_DRAIN] = Drain(stop, seconds=settings.drain_timeout)
    app[_DRAIN].install(app)
    app[_DOORS] = doors
    # Closed in the opposite order, when the last request has ended.
    app.cleanup_ctx.extend(
        [
            _closing(redis),
            _opened(store),
            _background(core, _deliverer(settings, ports, redis, metrics), gate, attempt),
        ]
    )
    return app


def api_document(doors: DoorTable) -> dict[str, Any]:
    """Describe all that the application serves, as OpenAPI."""
    calls = [call for door in doors.doors for call in door.operations()]
    others = (*HEALTH_OPERATIONS, *OPENAPI_OPERATIONS, *PAGE_OPERATIONS)
    return assemble([*calls, *others], version("multipart-gateway"))


async def serve(
    settings: Settings,
    sockets: list[socket.socket],
    stop: Stop,
    *,
    bucket_origins: Sequence[str] | None = None,
    when_ready: Callable[[], None] = lambda: None,
    shown: Certificate | None = None,
) -> None:
    """Serve on listening sockets until told to stop, then drain.

    With a certificate `shown`, https is served, and its files are watched. With `bucket_origins`
    the bucket is made first, and lets pages of these origins send parts. `when_ready` is called
    once, as soon as Redis and the store answer.
    """
    app = build_app(settings, stop=stop, bucket_origins=bucket_origins)
    runner = make_runner(app, _server_options(settings))
    await runner.setup()
    heartbeat = Heartbeat(app[_METRICS].loop_lag, interval=settings.loop_heartbeat)
    watching = asyncio.create_task(shown.watch()) if shown is not None else None
    announcing = asyncio.create_task(_announce(app[GATE], heartbeat, when_ready, stop))
    try:
        for listening in sockets:
            await _site(runner, listening, settings, shown).start()
        await stop.asked.wait()
        log.info("draining", seconds=settings.drain_timeout)
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_delay):
                await stop.hurried.wait()
    finally:
        background = [task for task in (announcing, watching) if task is not None]
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        heartbeat.stop()
        for site in list(runner.sites):
            await site.stop()
        for door in app[_DOORS].doors:
            door.stop()
        await app[_DRAIN].wait()
        await runner.cleanup()


def _site(
    runner: web.AppRunner, listening: socket.socket, settings: Settings, shown: Certificate | None
) -> web.BaseSite:
    if shown is None:
        return web.SockSite(runner, listening, backlog=_BACKLOG)
    return TLSSite(
        runner,
        listening,
        certificate=shown,
        handshake_timeout=settings.header_timeout,
        backlog=_BACKLOG,
    )


async def _announce(
    gate: Gate, heartbeat: Heartbeat, when_ready: Callable[[], None], stop: Stop
) -> None:
    await gate.opened.wait()
    # What has been loaded stays: without it in their way, collections pause the loop for a third
    # of the time (36 ms became 12 with a completion of 10,000 parts).
    gc.collect()
    gc.freeze()
    # Whatever held up the loop before harmed nobody.
    heartbeat.start()
    log.info("ready")
    try:
        when_ready()
    except OSError:
        # Whoever was to be told has gone away.
        log.exception("readiness cannot be announced")
        stop.ask_once()


def _page_origins(settings: Settings) -> list[str]:
    """Name the origins of pages that upload: the upload page's, where it is known, and others."""
    own = [settings.public_url] if settings.public_url else []
    return [*own, *settings.cors_origins]


async def _prepare_bucket(store: Store, settings: Settings, origins: Sequence[str] | None) -> None:
    if origins is not None:
        await store.make_bucket()
        await store.open_to_pages([*origins, *settings.cors_origins])
    elif settings.s3_create_bucket and await store.make_bucket() and _page_origins(settings):
        try:
            await store.open_to_pages(_page_origins(settings))
        except Unavailable as error:
            # MinIO has one such setting for all its buckets, and no call for it.
            if error.code != "storage_unsupported":
                raise
            log.warning("the store has no CORS rules for a bucket", hint="Set them at the store.")


def _ports(settings: Settings, store: Store, redis: Client, metrics: Metrics) -> Ports:
    objects = RetryingObjectStore(MeteredObjectStore(store.objects, metrics.store_call))
    return Ports(
        storage=RetryingStorage(MeteredStorage(store.storage, metrics.store_call)),
        objects=objects,
        sessions=RedisSessionStore(
            redis,
            RedisStoreOptions(
                prefix=settings.redis_prefix,
                grace=timedelta(seconds=settings.grace),
                retention=timedelta(seconds=settings.retention),
            ),
        ),
        chunks=RedisChunkStore(redis, prefix=settings.redis_prefix),
        sidecars=ObjectSidecars(objects, settings.s3_bucket),
        leases=RedisLeases(redis, prefix=settings.redis_prefix),
        clock=SystemClock(),
    )


def _core_options(settings: Settings) -> CoreOptions:
    return CoreOptions(
        creator=CreatorOptions(
            bucket=settings.s3_bucket,
            session_lifetime=timedelta(seconds=settings.session_lifetime),
            client_keys=settings.client_keys,
        ),
        service=ServiceOptions(
            bucket=settings.s3_bucket,
            url_lifetime=int(settings.url_lifetime),
            check_timeout=_CHECK_SECONDS,
        ),
        sweeper=SweeperOptions(
            settings.s3_bucket,
            grace=timedelta(seconds=settings.grace),
            retention=timedelta(seconds=settings.retention),
        ),
        policy=ContentPolicy(settings.allowed_types, settings.max_file_size),
        memory=settings.memory,
        staging_limit=settings.staging_limit,
    )


def _show_figures(core: Core, metrics: Metrics) -> None:
    budget, space = core.budget, core.space
    metrics.show(
        "gateway_memory_taken_bytes",
        "Memory that buffers hold now.",
        lambda: budget.figures.taken,
    )
    metrics.show(
        "gateway_memory_peak_bytes",
        "The most that buffers ever held.",
        lambda: budget.figures.peak,
    )
    metrics.show(
        "gateway_memory_waiting",
        "How many wait for memory now.",
        lambda: budget.figures.waiting,
    )
    metrics.show(
        "gateway_staging_bytes",
        "Bytes of all uploads that lie in staging, as this process last heard.",
        lambda: space.figures.staged,
    )


def webhook_endpoints(settings: Settings) -> list[Endpoint]:
    """Cut out where events are posted to."""
    urls = dict.fromkeys(url.get_secret_value() for url in settings.webhook_url)
    allowed = settings.webhook_allow_hosts
    return [Endpoint(url, anywhere=(urlsplit(url).hostname or "") in allowed) for url in urls]


def _deliverer(settings: Settings, ports: Ports, redis: Client, metrics: Metrics) -> Deliverer:
    prefix, secret = settings.redis_prefix, settings.webhook_secret
    agent = f"multipart-gateway/{version('multipart-gateway')}"
    options = WebhookOptions(
        key=signing_key(secret.get_secret_value()) if secret else b"", user_agent=agent
    )
    return Deliverer(
        outbox=RedisOutbox(redis, prefix=prefix),
        stream=RedisEventStream(redis, prefix=prefix, length=settings.events_kept),
        letters=RedisLetters(redis, prefix=prefix),
        sessions=ports.sessions,
        sidecars=ports.sidecars,
        clock=ports.clock,
        webhooks=Webhooks(webhook_endpoints(settings), ports.clock, options),
        metrics=metrics,
        options=DelivererOptions(
            retry_for=timedelta(seconds=settings.webhook_retry_for),
            keep_dead=timedelta(seconds=settings.webhook_retention),
        ),
    )


def _server_options(settings: Settings) -> ServerOptions:
    return ServerOptions(
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        max_connections=settings.max_connections,
        shutdown_timeout=_LAST_BYTES_SECONDS,
    )


_Context = Callable[[web.Application], AsyncIterator[None]]


def _closing(redis: Client) -> _Context:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        yield
        with suppress(GatewayError):
            await redis.close()

    return context


def _opened(store: Store) -> _Context:
    async def context(_app: web.Application) -> AsyncIterator[None]:
        async with store.open():
            yield

    return context


def _background(
    core: Core, deliverer: Deliverer, gate: Gate, attempt: Callable[[], Awaitable[None]]
) -> _Context:
    async def work() -> None:
        await gate.open_when(attempt)
        await core.sweeper.run()

    async def hand_on() -> None:
        await gate.opened.wait()
        await deliverer.run()

    async def context(_app: web.Application) -> AsyncIterator[None]:
        working, handing_on = asyncio.create_task(work()), asyncio.create_task(hand_on())
        yield
        working.cancel()
        await asyncio.wait([working])
        await core.assembler.close()
        await core.completer.close()
        if not gate.opened.is_set():
            handing_on.cancel()
        await deliverer.stop(handing_on)

    return context
