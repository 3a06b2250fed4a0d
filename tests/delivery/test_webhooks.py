"""One attempt to reach a webhook: what counts, how long it takes, and where it may lead."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from certificates import Authority
from delivery.receiver import Receiver

from gateway.core.clock import SystemClock
from gateway.delivery.signing import signed_headers
from gateway.delivery.webhooks import Endpoint, WebhookOptions, Webhooks

KEY = b"a key of the tests"
BODY = b'{"id": "session:1"}'


class Names(AbstractResolver):
    """Answers each question with the next of these addresses, and the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked = 0
        self._answers = answers

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the library hands it over.
    ) -> list[ResolveResult]:
        found = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for one in found
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def webhooks(endpoint: Endpoint, **options: Any) -> AsyncIterator[Webhooks]:
    async with Webhooks([endpoint], SystemClock(), WebhookOptions(KEY, **options)) as opened:
        yield opened


async def sent(endpoint: Endpoint, **options: Any) -> str:
    async with webhooks(endpoint, **options) as opened:
        return await opened.send(endpoint, "session:1", BODY)


async def test_a_letter_arrives_as_it_is_with_its_signature(receiver: Receiver) -> None:
    assert await sent(Endpoint(f"{receiver.url}?token=x%2Fy", anywhere=True)) == ""
    letter = await receiver.next()
    assert letter.body == BODY
    assert letter.path == "/hook?token=x%2Fy"
    assert letter.headers["Content-Type"] == "application/json"
    stamp = int(letter.headers["Webhook-Timestamp"])
    assert signed_headers(KEY, "session:1", stamp, BODY).items() <= letter.headers.items()


async def test_a_url_without_a_path_is_called_at_its_root(receiver: Receiver) -> None:
    assert await sent(Endpoint(f"http://127.0.0.1:{receiver.port}", anywhere=True)) == ""
    assert (await receiver.next()).path == "/"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_success(receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    assert await sent(Endpoint(receiver.url, anywhere=True)) == ""


@pytest.mark.parametrize("status", [301, 304, 307, 400, 401, 404, 410, 429, 500, 503])
async def test_every_other_answer_is_a_failure_and_no_redirect_is_followed(
    receiver: Receiver, status: int
) -> None:
    receiver.answer(web.Response(status=status, headers={"Location": f"{receiver.url}/elsewhere"}))
    assert await sent(Endpoint(receiver.url, anywhere=True)) == f"status_{status}"
    assert len(receiver.received) == 1


async def test_an_answer_that_does_not_come_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.answer(asyncio.Event())
    assert await sent(Endpoint(receiver.url, anywhere=True), total=0.2) == "timeout"


async def test_a_head_that_dribbles_in_is_given_up_in_time() -> None:
    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while not writer.transport.is_closing():
                writer.write(b"X-Header: and another\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(dribble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}/", anywhere=True)
        assert await sent(endpoint, total=0.3) in {"timeout", "no_http"}


async def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    taken = asyncio.Event()
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        try:
            while written < 1 << 30:
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        except ConnectionError:
            pass
        finally:
            writer.close()
            taken.set()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await sent(Endpoint(f"http://127.0.0.1:{port}/", anywhere=True)) == ""
        async with asyncio.timeout(10):
            await taken.wait()
    # Beside what was read lies what the kernel has taken in between.
    assert written < 16 << 20


async def test_what_does_not_speak_http_is_named_so() -> None:
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await sent(Endpoint(f"http://127.0.0.1:{port}/", anywhere=True)) == "no_http"


async def test_nobody_there_is_named_so(receiver: Receiver) -> None:
    await receiver.__aexit__()
    assert await sent(Endpoint(receiver.url, anywhere=True)) == "unreachable"


async def test_a_name_that_nobody_knows_is_named_so() -> None:
    class Nothing(Names):
        async def resolve(self, *_: Any, **__: Any) -> list[ResolveResult]:
            raise OSError(socket.EAI_NONAME, "Name or service not known")

    endpoint = Endpoint("http://hooks.invalid/")
    assert await sent(endpoint, resolver=Nothing()) == "name_unknown"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],  # noqa: S104 - nobody listens here.
)
async def test_an_address_that_is_not_public_is_refused_before_a_connection(
    receiver: Receiver, host: str
) -> None:
    assert await sent(Endpoint(f"http://{host}:{receiver.port}/")) == "address_refused"
    assert not receiver.received


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "017700000001"])
async def test_odd_ways_to_write_an_address_lead_nowhere(receiver: Receiver, host: str) -> None:
    assert await sent(Endpoint(f"http://{host}:{receiver.port}/")) in {
        "address_refused",
        "no_http",
        "name_unknown",
    }
    assert not receiver.received


@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["127.0.0.1", "127.0.0.2"]]
)
async def test_a_name_that_leads_to_a_private_address_is_refused(
    receiver: Receiver, answer: list[str]
) -> None:
    endpoint = Endpoint(f"http://hooks.example:{receiver.port}/")
    assert await sent(endpoint, resolver=Names(answer)) == "address_refused"
    assert not receiver.received


async def test_a_name_that_is_allowed_may_lead_to_a_private_address(receiver: Receiver) -> None:
    endpoint = Endpoint(f"http://hooks.internal:{receiver.port}/", anywhere=True)
    assert await sent(endpoint, resolver=Names(["127.0.0.1"])) == ""
    assert (await receiver.next()).headers["Host"] == f"hooks.internal:{receiver.port}"


async def test_what_is_connected_to_is_what_was_checked(receiver: Receiver) -> None:
    """A name that turns to a private address after the check does not get past it."""
    # 127.0.0.2 stands for a public address here: no test leaves this machine.
    async with Receiver("127.0.0.2", port=receiver.port) as public:
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        endpoint = Endpoint(f"http://hooks.example:{receiver.port}/")
        async with webhooks(
            endpoint, resolver=names, allowed=lambda address: address == "127.0.0.2"
        ) as opened:
            assert await opened.send(endpoint, "session:1", BODY) == ""
            assert names.asked == 1
            assert len(public.received) == 1
            # The next attempt asks anew, and is refused.
            assert await opened.send(endpoint, "session:2", BODY) == "address_refused"
            assert names.asked == 2
        assert not receiver.received
        assert len(public.received) == 1


async def test_of_several_addresses_only_those_that_are_public_are_tried(
    receiver: Receiver,
) -> None:
    async with Receiver("127.0.0.2", port=receiver.port) as public:
        endpoint = Endpoint(f"http://hooks.example:{receiver.port}/")
        names = Names(["127.0.0.1", "127.0.0.2"])
        reason = await sent(endpoint, resolver=names, allowed=lambda one: one == "127.0.0.2")
        assert reason == ""
        assert len(public.received) == 1
    assert not receiver.received


async def test_tls_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair = authority.issue("hooks", "hooks.example")
    served.load_cert_chain(pair.cert, pair.key)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    names = Names(["127.0.0.1"])
    async with Receiver(tls=served) as receiver:
        right = Endpoint(f"https://hooks.example:{receiver.port}/", anywhere=True)
        wrong = Endpoint(f"https://other.example:{receiver.port}/", anywhere=True)
        assert await sent(right, resolver=names, tls=trusting) == ""
        assert await sent(wrong, resolver=names, tls=trusting) == "tls_failed"
        assert await sent(right, resolver=names) == "tls_failed"
        assert len(receiver.received) == 1


async def test_no_proxy_of_the_environment_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert await sent(Endpoint(receiver.url, anywhere=True)) == ""
        assert len(receiver.received) == 1
        assert not proxy.received


def test_nothing_that_may_be_secret_is_in_the_name_or_the_representation() -> None:
    endpoint = Endpoint("https://somebody:pass@hooks.example:8443/T0KEN/path?key=s3cret")
    assert endpoint.name == "https://hooks.example:8443"
    shown = f"{endpoint!r} {WebhookOptions(b's3cret')!r}"
    for secret in ("somebody", "pass", "T0KEN", "s3cret"):
        assert secret not in shown
