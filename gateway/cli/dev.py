"""`gateway dev`: everything on one machine with one command, out of wheels.

A real Valkey and a real SeaweedFS run as children below the data directory, the gateway in this
process. However it ends, they end with it; started again on the same directory, it has its data,
its token, its keys and, where they are still free, its ports. It is made for trying out, for
development and for tests: the store listens on loopback, and nothing is replicated.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
import uvloop

from gateway.cli.listening import listen, url_of
from gateway.cli.welcome import Running
from gateway.cli.workspace import DevState, claimed, read_state, write_state
from gateway.config import Settings, is_loopback, load_settings
from gateway.embedded import Seaweed, Valkey, free_port
from gateway.errors import GatewayError, Unavailable
from gateway.telemetry import LogOptions, configure_logging
from gateway.web.auth import LOCAL
from gateway.web.draining import Stop

log = structlog.get_logger(__name__)

_BUCKET: Final = "uploads"
_DEFAULT_PORT: Final = 8000
_LISTEN_TRIES: Final = 5
_WATCH_SECONDS: Final = 1.0
_QUIET: Final = LogOptions("warning")
_INTERRUPTED: Final = 130  # What shells report for Ctrl-C.


def dev(
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the gateway; a taken one is replaced, and 0 means any. "
            "Default: that of the last start, or 8000.",
        ),
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Where data, secrets and logs of the servers are kept.")
    ] = Path(".gateway-dev"),
    host: Annotated[
        str, typer.Option(help="Address to listen on. The store stays on loopback in any case.")
    ] = "127.0.0.1",
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when everything is ready.")
    ] = False,
) -> None:
    """Start the gateway with a Valkey and an S3 store of its own; Ctrl-C ends them all."""
    # Until the settings are read, and unless they say more: requests would push the addresses
    # off the screen.
    configure_logging(_QUIET)
    data_dir = data_dir.absolute()
    with claimed(data_dir):
        uvloop.run(_Dev(data_dir, host, port, as_json=json).run())


class _Dev:
    """One run of the command."""

    def __init__(self, data_dir: Path, host: str, port: int | None, *, as_json: bool) -> None:
        self._data_dir = data_dir
        self._host = host
        self._port = port
        self._as_json = as_json
        self._on_signal: Callable[[], object] = lambda: None

    async def run(self) -> None:
        """Start everything, serve until told to stop, and end everything."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task.
        self._on_signal = task.cancel
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        try:
            await self._run()
        except asyncio.CancelledError:
            raise typer.Exit(_INTERRUPTED) from None

    def _signalled(self) -> None:
        # What a signal does changes on the way from starting to serving.
        self._on_signal()

    async def _run(self) -> None:
        state = read_state(self._data_dir)
        sockets = self._listen(state)
        try:
            url = url_of(sockets)
            state = replace(state, port=sockets[0].getsockname()[1])
            write_state(self._data_dir, state)
            self._say(f"Starting Valkey and SeaweedFS in {self._data_dir} ...")
            valkey = Valkey(
                self._data_dir / "valkey", password=state.redis_password, port=state.redis_port
            )
            seaweed = Seaweed(
                self._data_dir / "seaweed",
                access_key_id=state.access_key_id,
                secret_access_key=state.secret_access_key,
                port=state.s3_port,
            )
            async with _started(valkey, seaweed):
                state = replace(state, redis_port=valkey.port, s3_port=seaweed.port)
                write_state(self._data_dir, state)
                settings = self._settings(state, valkey, seaweed)
                if "log_level" in settings.model_fields_set:
                    configure_logging(LogOptions(settings.log_level, settings.log_format))
                await self._serve(settings, sockets, url, valkey, seaweed)
        finally:
            for opened in sockets:
                opened.close()

    async def _serve(
        self,
        settings: Settings,
        sockets: list[socket.socket],
        url: str,
        valkey: Valkey,
        seaweed: Seaweed,
    ) -> None:
        # Imported already, in a thread while the servers started: it takes a large part of a second.
        from gateway import app  # noqa: PLC0415

        stop = Stop()
        self._on_signal = stop.ask

        def announce() -> None:
            running = Running(
                url=url,
                token=settings.token.get_secret_value() if settings.token else "",
                endpoint=seaweed.endpoint,
                region=seaweed.region,
                bucket=settings.s3_bucket,
                access_key_id=seaweed.access_key_id,
                secret_access_key=seaweed.secret_access_key,
                redis_url=valkey.url,
                data_dir=self._data_dir,
                pids={"gateway": os.getpid(), "valkey": valkey.pid, "seaweed": seaweed.pid},
            )
            print(running.as_json() if self._as_json else running.as_text(), flush=True)

        await app.serve(
            settings, sockets, stop, bucket_origins=_page_origins(url), when_ready=announce
        )

    def _settings(self, state: DevState, valkey: Valkey, seaweed: Seaweed) -> Settings:
        """Decide what this command decides; the rest comes from the usual sources."""
        # Older clients send no credentials; on this machine alone they need none.
        open_to_older = is_loopback(self._host) and not os.environ.get("GW_CHUNKS_PRINCIPAL")
        return load_settings(
            {
                "chunks_principal": LOCAL.principal_id if open_to_older else None,
                "host": self._host,
                "port": state.port,
                "workers": 1,
                # A token in the environment is what this user's other commands send.
                "token": os.environ.get("GW_TOKEN") or state.token,
                "s3_endpoint": seaweed.endpoint,
                "s3_public_endpoint": seaweed.endpoint,
                "s3_region": seaweed.region,
                "s3_bucket": _BUCKET,
                "s3_addressing": "path",
                "s3_access_key_id": seaweed.access_key_id,
                "s3_secret_access_key": seaweed.secret_access_key,
                "redis_url": valkey.url,
            }
        )

    def _listen(self, state: DevState) -> list[socket.socket]:
        """Open the wanted port, the one of the last start, or any free one."""
        wanted = self._port or state.port or (_DEFAULT_PORT if self._port is None else 0)
        for _ in range(_LISTEN_TRIES):
            try:
                # Of the free ones, one that no outgoing connection of this machine can get.
                return listen(self._host, wanted or free_port())
            except Unavailable as error:
                if error.code not in {"port_taken", "port_denied"}:
                    raise
                if wanted:
                    log.warning("port not usable, another one is taken", port=wanted)
                wanted = 0
        raise Unavailable("No free port was found on this machine.", code="no_free_port")

    def _say(self, text: str) -> None:
        if not self._as_json:
            print(text, flush=True)


@asynccontextmanager
async def _started(valkey: Valkey, seaweed: Seaweed) -> AsyncIterator[None]:
    """Run both, restarting one that crashes, and end both."""
    servers = (valkey, seaweed)
    try:
        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(server.start())
                group.create_task(asyncio.to_thread(import_module, "gateway.app"))
        except ExceptionGroup as errors:
            # What failed first says why; the other start was cancelled for it.
            raise errors.exceptions[0] from None
        watching = asyncio.create_task(_keep_running(valkey, seaweed))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def _keep_running(valkey: Valkey, seaweed: Seaweed) -> None:
    """Start a server again that has ended by itself; its data and its port are what they were."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        for server in (valkey, seaweed):
            if server.running:
                continue
            log.error("a server ended and is started again", server=server.name)
            before = server.port
            try:
                await server.start()
            except GatewayError as error:
                log.warning("it does not start", server=server.name, reason=error.message)
            else:
                if server.port != before:
                    log.error(
                        "its port was taken meanwhile; start `gateway dev` again",
                        server=server.name,
                    )


def _page_origins(url: str) -> list[str]:
    """Name the origins under which a browser may have opened the upload page."""
    port = url.rpartition(":")[2]
    return list(dict.fromkeys([url, f"http://127.0.0.1:{port}", f"http://localhost:{port}"]))
