"""`gateway serve`: the gateway for deployments, in one process or several.

On SIGTERM or SIGINT it reports that it is not ready, stops accepting, lets running requests end
within the drain timeout, and exits; a second signal cuts them short. On SIGHUP it reads its
certificate again; one without a certificate has nothing to read, and drains, as when its terminal
is closed. Redis and the store may be away when it starts: it is then not ready, and keeps trying.
"""

import asyncio
import signal
import socket

import structlog
import typer
import uvloop

from gateway import app
from gateway.cli.flags import with_settings
from gateway.cli.listening import listen, url_of
from gateway.cli.supervisor import Supervisor, SupervisorOptions
from gateway.config import Settings
from gateway.telemetry import LogOptions, configure_logging
from gateway.web.draining import Stop

log = structlog.get_logger(__name__)

# What a worker may take on top of its drain: closing connections, flushing logs.
_MARGIN_SECONDS = 10.0


def _serve(settings: Settings) -> None:
    """Serve until told to stop. Settings come from flags, GW_* and AWS variables, a TOML file."""
    configure_logging(LogOptions(settings.log_level, settings.log_format))
    _check(settings)
    reloads = settings.tls_cert is not None
    if reloads:
        # One that comes before the handler is there must not end the process: what it asks for is
        # about to be done anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sockets = listen(settings.host, settings.port)
    url = url_of(sockets, scheme="https" if reloads else "http")
    log.info("listening", url=url, workers=settings.workers, public_url=settings.public_url)

    def close() -> None:
        for opened in sockets:
            opened.close()

    try:
        if settings.workers == 1:
            uvloop.run(serve_until_signalled(settings, sockets))
            return
        code = Supervisor(
            lambda lifeline: uvloop.run(serve_until_signalled(settings, sockets, lifeline)),
            SupervisorOptions(
                workers=settings.workers,
                drain_timeout=settings.drain_delay + settings.drain_timeout + _MARGIN_SECONDS,
                reload_on_hangup=reloads,
            ),
            # While anybody holds them, the kernel accepts connections that nobody would serve.
            at_stop=close,
        ).run()
    finally:
        close()
    raise typer.Exit(code)


serve = with_settings(_serve)


def _check(settings: Settings) -> None:
    """Raise for what would keep each worker from starting: addresses, credentials, certificate."""
    app.s3_options(settings)
    app.redis_options(settings)
    app.certificate(settings)


async def serve_until_signalled(
    settings: Settings, sockets: list[socket.socket], lifeline: int | None = None
) -> None:
    """Serve in this process until a signal comes, or the lifeline reaches its end."""
    stop = Stop()
    shown = app.certificate(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    loop.add_signal_handler(signal.SIGHUP, stop.ask if shown is None else shown.reload)
    if lifeline is not None:
        loop.add_reader(lifeline, stop.ask_once)
    await app.serve(settings, sockets, stop, shown=shown)
