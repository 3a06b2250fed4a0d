"""Which HTTP proxy a request goes through: the environment's, and never one for loopback.

aiohttp's own `trust_env` is not used. It would also send credentials from ~/.netrc, which would
break a presigned request, and it would send a request for 127.0.0.1 to a proxy.
"""

import ipaddress
from typing import TypedDict
from urllib.request import getproxies, proxy_bypass

from aiohttp import encode_basic_auth
from yarl import URL


class ProxyArguments(TypedDict, total=False):
    """Arguments for aiohttp's request methods."""

    proxy: URL
    proxy_headers: dict[str, str]


def is_loopback(host: str | None) -> bool:
    """Tell whether this host name or address is the machine itself."""
    if not host:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_arguments(url: URL) -> ProxyArguments:
    """Return how to reach this URL: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case."""
    if url.host is None or is_loopback(url.host):
        return {}
    proxies = getproxies()
    # urllib wants the host and port as they would stand in a URL.
    if proxy_bypass(url.authority.rpartition("@")[2]):
        return {}
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return {}
    proxy = URL(address if "://" in address else f"http://{address}")
    if proxy.user is None:
        return {"proxy": proxy}
    return {
        "proxy": proxy.with_user(None),
        # aiohttp turns it into Proxy-Authorization, for plain requests and for tunnels.
        "proxy_headers": {"Authorization": encode_basic_auth(proxy.user, proxy.password or "")},
    }
