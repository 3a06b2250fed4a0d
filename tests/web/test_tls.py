"""The gateway's own certificate: what is refused, and how another one takes its place."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from certificates import Authority, Pair
from structlog.testing import capture_logs

from gateway.cli.listening import listen
from gateway.errors import InvalidRequest
from gateway.web.limits import ServerOptions, make_runner
from gateway.web.tls import Certificate, TLSSite, load_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("first", "127.0.0.1", "gateway.example")


@contextlib.asynccontextmanager
async def serving(certificate: Certificate, *, handshake: float = 5.0) -> AsyncIterator[int]:
    """Serve one page over TLS; give the port."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application()
    app.router.add_get("/", page)
    runner = make_runner(app, ServerOptions(shutdown_timeout=1))
    await runner.setup()
    (listening,) = listen("127.0.0.1", 0)
    try:
        await TLSSite(
            runner, listening, certificate=certificate, handshake_timeout=handshake, backlog=16
        ).start()
        yield listening.getsockname()[1]
    finally:
        await runner.cleanup()
        listening.close()


async def shown(port: int, authority: Authority, *, name: str = "gateway.example") -> str:
    """Open a connection, and tell whose certificate is shown there; no name: none is sent (SNI)."""
    context = authority.trusting()
    context.check_hostname = bool(name)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        return owner(writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def owner(writer: asyncio.StreamWriter) -> str:
    subject = writer.get_extra_info("peercert")["subject"]
    return str(dict(item for group in subject for item in group)["commonName"])


def problem(cert: Path, key: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load_context(cert, key)
    assert caught.value.code == "invalid_certificate"
    assert caught.value.hint
    return caught.value.message


async def test_https_is_served_from_tls_1_2_on(authority: Authority, pair: Pair) -> None:
    async with serving(Certificate(pair.cert, pair.key)) as port:
        async with aiohttp.ClientSession() as http:
            url = f"https://127.0.0.1:{port}/"
            async with http.get(url, ssl=authority.trusting()) as answer:
                assert await answer.text() == "well"
        old = authority.trusting()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=old)
        writer.close()
    # Whether anything older could still be agreed on is the platform's choice elsewhere.
    assert load_context(pair.cert, pair.key).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_renewed_certificate_is_shown_and_open_connections_go_on(
    authority: Authority, pair: Pair
) -> None:
    certificate = Certificate(pair.cert, pair.key)
    async with serving(certificate) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=authority.trusting(), server_hostname="gateway.example"
        )
        assert owner(writer) == "first"
        pair.replace_by(authority.issue("second", "127.0.0.1", "gateway.example"))
        assert await shown(port, authority) == "first"
        certificate.reload_if_changed()
        assert await shown(port, authority) == "second"
        # With no name in its greeting a client gets it too.
        assert await shown(port, authority, name="") == "second"
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n")
        assert b"well" in await reader.read()
        writer.close()


async def test_the_files_are_looked_at_without_being_told(authority: Authority, pair: Pair) -> None:
    certificate = Certificate(pair.cert, pair.key)
    watching = asyncio.create_task(certificate.watch(every=0.01))
    try:
        async with serving(certificate) as port:
            pair.replace_by(authority.issue("second", "gateway.example"))
            async with asyncio.timeout(10):
                while await shown(port, authority) != "second":
                    pass
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def test_files_that_cannot_be_used_leave_the_last_good_ones(
    authority: Authority, pair: Pair
) -> None:
    certificate = Certificate(pair.cert, pair.key)
    other = authority.issue("second", "gateway.example")
    async with serving(certificate) as port:
        for harm in (
            # Half a renewal: the new certificate with the old key.
            lambda: pair.cert.write_bytes(other.cert.read_bytes()),
            lambda: pair.cert.write_bytes(other.cert.read_bytes()[:100]),
            pair.cert.unlink,
        ):
            harm()
            with capture_logs() as logs:
                certificate.reload_if_changed()
                # Once is enough: the next look finds the same files.
                certificate.reload_if_changed()
            assert [entry["event"] for entry in logs] == ["certificate not reloaded"]
            assert await shown(port, authority) == "first"
        pair.cert.write_bytes(other.cert.read_bytes())
        pair.key.write_bytes(other.key.read_bytes())
        certificate.reload_if_changed()
        assert await shown(port, authority) == "second"


async def test_a_link_that_leads_elsewhere_is_a_change(
    authority: Authority, tmp_path: Path
) -> None:
    # Kubernetes swaps a link to a folder.
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        issued = authority.issue(name, "gateway.example")
        issued.cert.rename(tmp_path / name / "tls.crt")
        issued.key.rename(tmp_path / name / "tls.key")
        for file in ("tls.crt", "tls.key"):
            os.utime(tmp_path / name / file, (1, 1))
    data = tmp_path / "data"
    data.symlink_to(tmp_path / "first")
    certificate = Certificate(data / "tls.crt", data / "tls.key")
    async with serving(certificate) as port:
        new = tmp_path / "new"
        new.symlink_to(tmp_path / "second")
        new.replace(data)
        certificate.reload_if_changed()
        assert await shown(port, authority) == "second"


async def test_a_client_that_does_not_shake_hands_is_cut(pair: Pair) -> None:
    async with serving(Certificate(pair.cert, pair.key), handshake=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_plain_http_at_the_tls_port_gets_no_page(pair: Pair) -> None:
    async with serving(Certificate(pair.cert, pair.key)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: gateway.example\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"well" not in await reader.read()
        writer.close()


def test_files_that_do_not_belong_together_are_refused(authority: Authority, pair: Pair) -> None:
    other = authority.issue("other")
    assert "is not that of the certificate" in problem(pair.cert, other.key)


def test_files_that_are_missing_or_something_else_are_refused(pair: Pair, tmp_path: Path) -> None:
    assert "none.pem cannot be read" in problem(tmp_path / "none.pem", pair.key)
    assert "cannot be read" in problem(pair.cert, tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("what nobody may see")
    for message in (problem(secret, pair.key), problem(pair.cert, secret)):
        assert "in PEM" in message
        assert "nobody may see" not in message


def test_a_key_with_a_passphrase_is_refused_without_a_question(authority: Authority) -> None:
    locked = authority.issue("locked", passphrase=b"hush")
    assert "passphrase" in problem(locked.cert, locked.key)


def test_an_expired_certificate_is_served_all_the_same(authority: Authority) -> None:
    # Serving nothing at all would help nobody; the doctor tells.
    expired = authority.issue("expired", life=timedelta(days=-1))
    load_context(expired.cert, expired.key)
