"""Which way requests take out of the machine."""

import asyncio

import pytest
from yarl import URL

from gateway.client import GatewayClient
from gateway.client.proxies import is_loopback, proxy_arguments


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "[::1]", "localhost", "a.localhost"])
def test_loopback_never_goes_through_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    url = URL(f"http://{host}:8000/uploads")
    assert is_loopback(url.host)
    assert proxy_arguments(url) == {}


def test_others_take_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_arguments(URL("https://s3.example/")) == {}
    monkeypatch.setenv("https_proxy", "http://user:word@proxy.example:3128")
    assert proxy_arguments(URL("https://s3.example/")) == {
        "proxy": URL("http://proxy.example:3128"),
        "proxy_headers": {"Authorization": "Basic dXNlcjp3b3Jk"},
    }
    assert proxy_arguments(URL("http://s3.example/")) == {}


def test_exceptions_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "s3.example, other.example:9000")
    assert proxy_arguments(URL("http://s3.example:9000/")) == {}
    assert proxy_arguments(URL("http://other.example:9000/")) == {}
    assert proxy_arguments(URL("http://third.example/")) == {
        "proxy": URL("http://proxy.example:3128")
    }


async def test_a_call_really_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{port}")
        async with GatewayClient("http://gateway.example:8000/base/", token="t0ken") as client:
            assert await client.version() == {}
    assert heads[0].startswith("GET http://gateway.example:8000/base/version HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in heads[0]
    assert "Authorization: Bearer t0ken\r\n" in heads[0]
