"""The verbs of the client against a real gateway, and what it does when calls fail."""

import asyncio
import io
import time
from uuid import uuid4

import aiohttp
import pytest
from client.between import Fault
from client.gate import PART, Gate

from gateway.client import GatewayClient
from gateway.core.checksums import ALGORITHMS
from gateway.errors import (
    Conflict,
    GatewayError,
    Gone,
    Internal,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unavailable,
)

SUM = ALGORITHMS["crc64nvme"].value_of(b"0123456789")


async def put(url: str, headers: dict[str, str], body: bytes) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.put(url, data=io.BytesIO(body), headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return str(answer.headers["ETag"])


async def test_the_whole_life_of_an_upload(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("a file.txt", 10, metadata={"colour": "red"})
        assert (session.state, session.size, session.plan().last_number) == ("open", 10, 1)
        (signed,) = await client.sign(session.session_id, [{"part_number": 1, "checksum": SUM}])
        etag = await put(signed.url, dict(signed.headers), b"0123456789")
        await client.acknowledge(
            session.session_id, [{"part_number": 1, "etag": etag, "checksum": SUM}]
        )
        await client.progress(session.session_id, {1: 5})
        parts = await client.parts(session.session_id)
        assert {(number, part.size, part.checksum) for number, part in parts.items()} == {
            (1, 10, SUM)
        }
        done, again = await client.complete(session.session_id, wait=20)
        assert (done.state, again) == ("completed", None)
        assert (await client.get(session.session_id)).object is not None
        content = await client.content(session.session_id)
        assert (content.filename, content.size) == ("a file.txt", 10)
        with pytest.raises(Conflict):
            await client.abort(session.session_id)


async def test_sessions_are_found_page_after_page(gate: Gate) -> None:
    mark = f"mark-{uuid4().hex}"
    async with gate.client() as client:
        made = [
            (await client.create(f"{number}", 10, fingerprint=mark)).session_id
            for number in range(5)
        ]
        await client.abort(made[2])
        found = [s.session_id async for s in client.find(fingerprint=mark, page_size=2)]
        still_open = [s.session_id async for s in client.find(fingerprint=mark, states=("open",))]
    assert sorted(found) == sorted(made)
    assert set(still_open) == set(made) - {made[2]}


async def test_a_repeated_creation_makes_one_session(gate: Gate) -> None:
    mark = f"mark-{uuid4().hex}"
    lost = gate.api.add(Fault("POST", "/uploads$", times=2, lose_reply=True))
    async with gate.client() as client:
        session = await client.create("file", 10, fingerprint=mark)
        found = [s.session_id async for s in client.find(fingerprint=mark)]
    assert lost.hits == 2
    assert found == [session.session_id]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_passing_failures_are_borne(gate: Gate, status: int) -> None:
    fault = gate.api.add(Fault("GET", "/version", times=2, answer=(status, {}, b"")))
    async with gate.client() as client:
        assert (await client.version())["name"] == "multipart-gateway"
    assert fault.hits == 2


async def test_retry_after_is_honoured(gate: Gate) -> None:
    gate.api.add(Fault("GET", "/version", answer=(503, {"Retry-After": "2"}, b"")))
    begin = time.monotonic()
    async with gate.client() as client:
        await client.version()
    assert time.monotonic() - begin >= 2


async def test_a_mistake_of_the_gateway_is_not_tried_for_ever(gate: Gate) -> None:
    fault = gate.api.add(Fault("GET", "/version", times=100, answer=(500, {}, b"")))
    async with gate.client(retry_for=60.0) as client:
        with pytest.raises(Internal):
            await client.version()
    assert fault.hits == 4


async def test_what_no_retry_can_mend_is_tried_once(gate: Gate) -> None:
    async with gate.client() as client:
        with pytest.raises(NotFound):
            await client.get("0" * 32)
        with pytest.raises(InvalidRequest) as caught:
            await client.create("a/b", 10)
    assert caught.value.code == "invalid_filename"
    assert caught.value.hint
    assert len(gate.api.seen) == 2


async def test_a_wrong_token_is_said_at_once(gate: Gate) -> None:
    async with gate.client(token="not-the-token") as client:
        with pytest.raises(Unauthenticated):
            _ = [session async for session in client.find()]
    assert len(gate.api.seen) == 1


async def test_a_gateway_that_is_not_there_is_given_up() -> None:
    begin = time.monotonic()
    async with GatewayClient("http://127.0.0.1:1", retry_for=0.5) as client:
        with pytest.raises(Unavailable) as caught:
            await client.version()
    assert caught.value.code == "unreachable"
    assert caught.value.hint
    assert time.monotonic() - begin < 10


async def test_a_gateway_that_does_not_answer_is_given_up(gate: Gate) -> None:
    async def stall(_: object) -> None:
        await asyncio.sleep(2)

    gate.api.add(Fault("GET", "/version", times=9, hook=stall))
    async with gate.client(request_timeout=0.2, retry_for=0.3) as client:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await client.version()


async def test_a_redirection_is_not_followed(gate: Gate) -> None:
    answer = (308, {"Location": "http://127.0.0.1:1/elsewhere"}, b"")
    gate.api.add(Fault("GET", "/version", answer=answer))
    async with gate.client() as client:
        with pytest.raises(GatewayError, match="elsewhere"):
            await client.version()
    assert len(gate.api.seen) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"uploads": 3}', b'{"uploads": [{}]}', b"<html>"]
)
async def test_an_answer_that_is_no_gateways_is_recognized(gate: Gate, body: bytes) -> None:
    gate.api.add(Fault("GET", "/uploads", answer=(200, {}, body)))
    async with gate.client() as client:
        with pytest.raises(Internal) as caught:
            _ = [session async for session in client.find()]
    assert caught.value.code == "unexpected_answer"


@pytest.mark.parametrize("session_id", ["..", "a/b", "", "a?b", "a" * 200, "é"])
async def test_no_session_id_leads_anywhere_else(gate: Gate, session_id: str) -> None:
    async with gate.client() as client:
        with pytest.raises(NotFound):
            await client.get(session_id)
    assert gate.api.seen == []


@pytest.mark.parametrize(
    "server", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://user:pw@host"]
)
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GatewayClient(server)
    assert caught.value.code == "invalid_server"


async def test_a_conflict_of_parts_names_them(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", 2 * PART, part_size=PART)
        (signed,) = await client.sign(session.session_id, [{"part_number": 2}])
        etag = await put(signed.url, dict(signed.headers), bytes(PART))
        given = {"part_number": 2, "etag": etag, "checksum": SUM}
        await client.acknowledge(session.session_id, [given])  # type: ignore[list-item]
        other = ALGORITHMS["crc64nvme"].value_of(b"other")
        with pytest.raises(Conflict) as caught:
            await client.sign(session.session_id, [{"part_number": 2, "checksum": other}])
        assert caught.value.code == "part_conflict"
        assert caught.value.details["parts"] == [2]
        await client.sign(
            session.session_id, [{"part_number": 2, "checksum": other, "replace": True}]
        )
        await client.abort(session.session_id)
        await client.abort(session.session_id)
        with pytest.raises(Gone):
            await client.sign(session.session_id, [{"part_number": 1}])


async def test_the_event_stream_of_an_unknown_session_is_an_error(gate: Gate) -> None:
    async with gate.client() as client:
        with pytest.raises(NotFound):
            async for _ in client.events("0" * 32):
                pass


async def test_following_goes_on_over_connections_that_break(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", 10)
        fault = gate.api.add(Fault("GET", "/events$", times=2, answer=(503, {}, b"")))
        states: list[str] = []
        async with asyncio.timeout(30):
            async for change in client.follow(session.session_id):
                states.append(change.state)
                if fault.hits == 2 and change.state == "open":
                    await client.abort(session.session_id)
        assert fault.hits == 2
        assert states[0] == "open"
        assert states[-1] == "aborted"


async def test_following_what_is_not_there_says_so(gate: Gate) -> None:
    async with gate.client() as client:
        with pytest.raises(NotFound):
            await anext(client.follow("0" * 32))
