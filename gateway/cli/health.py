"""`gateway health`: asks a gateway whether it is ready, for the health checks of containers.

Nothing but the standard library is imported, because it runs every few seconds.
"""

import http.client
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer

_MAX_ANSWER = 65_536


def health(
    url: Annotated[
        str | None,
        typer.Argument(
            help="Address of the gateway, without a path. Default: http://127.0.0.1:8000, or the "
            "port in GW_PORT; https where GW_TLS_CERT is set."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Take any certificate. On loopback it is never checked: its name is another one.",
        ),
    ] = False,
) -> None:
    """Exit with 0 if the gateway is ready (Redis and the store answer), else with 1."""
    scheme = "https" if os.environ.get("GW_TLS_CERT") else "http"
    base = url or f"{scheme}://127.0.0.1:{os.environ.get('GW_PORT') or 8000}"
    if urlsplit(base).scheme not in {"http", "https"}:
        print(f"{base} is not an http or https address.", file=sys.stderr)
        raise typer.Exit(2)
    try:
        # The scheme was checked above, and a proxy has no business between us and ourselves.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=_context(base, insecure=insecure)),
        )
        with opener.open(base.rstrip("/") + "/readyz", timeout=timeout) as answer:
            body = answer.read(_MAX_ANSWER)
    except urllib.error.HTTPError as error:
        with error:
            print(f"not ready: {_summary(error.read(_MAX_ANSWER))}", file=sys.stderr)
        raise typer.Exit(1) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"no answer from {base}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"ready: {_summary(body)}")


def _context(base: str, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure or _is_loopback(urlsplit(base).hostname or ""):
        # No secret is sent, and what is asked is whether it works.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _summary(body: bytes) -> str:
    """Name each check and what it said, whatever the answer looks like."""
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{name}: {check['detail']}" for name, check in checks.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return body[:200].decode(errors="replace")
