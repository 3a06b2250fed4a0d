"""Sessions whose size is told at the end, by whoever speaks the API."""

import io
import random
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from client.gate import PART, Gate

from gateway.client import GatewayClient, Session
from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, GatewayError, InvalidRequest

DATA = random.Random(5).randbytes(2 * PART + 1000)
WHOLE = len(DATA)


def piece(number: int) -> bytes:
    return DATA[(number - 1) * PART : number * PART]


async def send(
    client: GatewayClient, session: Session, parts: dict[int, bytes], *, replace: bool = False
) -> list[Any]:
    """Sign and send parts, in the order given, and return what to acknowledge."""
    words: list[Any] = []
    async with aiohttp.ClientSession() as http:
        for number, data in parts.items():
            checksum = ALGORITHMS[session.checksum_algorithm].value_of(data)
            asked: Any = {"part_number": number, "checksum": checksum, "size": len(data)}
            asked["replace"] = replace
            (signed,) = await client.sign(session.session_id, [asked])
            assert signed.size == len(data)
            async with http.put(
                signed.url, data=io.BytesIO(data), headers=dict(signed.headers)
            ) as answer:
                assert answer.status == 200, await answer.text()
                words.append(
                    {"part_number": number, "etag": answer.headers["ETag"], "checksum": checksum}
                )
    return words


async def refused(
    client: GatewayClient, session: Session, size: int | None, words: Sequence[Any] = ()
) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await client.complete(session.session_id, parts=words, size=size)
    assert (await client.get(session.session_id)).state == "open"
    return caught.value


async def test_parts_in_any_order_and_the_size_at_the_end(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        assert (session.size, session.fraction) == (None, None)
        assert (session.raw["missing"], session.raw["part_count"]) == (None, None)
        words = await send(client, session, {n: piece(n) for n in (3, 1, 2)})
        await client.acknowledge(session.session_id, words)
        parts = await client.parts(session.session_id)
        assert {number: part.size for number, part in parts.items()} == {1: PART, 2: PART, 3: 1000}
        assert (await client.get(session.session_id)).received_bytes == WHOLE
        done, _ = await client.complete(session.session_id, size=WHOLE)
        assert (done.state, done.verified_by, done.size) == ("completed", "client_parts", WHOLE)
        assert await gate.content(done.raw["object"]) == DATA
        # Once it is known, the size may be told again, and no other.
        assert (await client.complete(session.session_id, size=WHOLE))[0].state == "completed"


async def test_by_default_its_parts_have_64_mib(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None)
        assert session.part_size == 64 << 20
        await client.abort(session.session_id)


async def test_without_parts_acknowledged_the_store_is_asked(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        await send(client, session, {n: piece(n) for n in (1, 2, 3)})
        done, _ = await client.complete(session.session_id, size=WHOLE)
        assert done.state == "completed"
        assert await gate.content(done.raw["object"]) == DATA


async def test_an_empty_file_of_unknown_size(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        words = await send(client, session, {1: b""})
        done, _ = await client.complete(session.session_id, parts=words, size=0)
        assert (done.state, done.size) == ("completed", 0)


async def test_wrong_sizes_are_refused_and_the_right_one_still_taken(gate: Gate) -> None:
    other_end = {"missing": "3", "wrong_size": "3", "changed": ""}
    wrong: list[tuple[int | None, str, Any]] = [
        (None, "size_required", {}),
        (-1, "size_out_of_range", {}),
        (PART * 10_000 + 1, "file_too_large", {"max_size": PART * 10_000}),
        (WHOLE - 1, "parts_missing", other_end),
        (WHOLE + 1, "parts_missing", other_end),
        (WHOLE + PART, "parts_missing", {**other_end, "missing": "3-4"}),
        (2 * PART, "size_mismatch", {"parts": "3"}),
        (5, "size_mismatch", {"parts": "2-3"}),
    ]
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        words = await send(client, session, {n: piece(n) for n in (1, 2, 3)})
        for size, code, details in wrong:
            error = await refused(client, session, size, words)
            assert (error.code, error.details) == (code, details), size
            assert error.hint
        done, _ = await client.complete(session.session_id, size=WHOLE)
        assert done.state == "completed"
        assert await gate.content(done.raw["object"]) == DATA


async def test_a_gap_is_named(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        words = await send(client, session, {n: piece(n) for n in (1, 3)})
        error = await refused(client, session, WHOLE, words)
        assert isinstance(error, Conflict)
        assert error.details["missing"] == "2"
        words = await send(client, session, {2: piece(2)})
        assert (await client.complete(session.session_id, parts=words, size=WHOLE))[0].state == (
            "completed"
        )


async def test_a_middle_part_of_another_length_is_refused_by_its_name(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        parts = {1: piece(1), 2: piece(2)[:-7], 3: piece(3)}
        words = await send(client, session, parts)
        total = sum(map(len, parts.values()))
        error = await refused(client, session, total, words)
        assert (error.code, error.details["wrong_size"]) == ("parts_missing", "2-3")
        error = await refused(client, session, WHOLE)
        assert (error.code, error.details["wrong_size"]) == ("parts_missing", "2")
        assert error.message == "1 part is missing or stored with another length."
        assert f"every part has {PART}, but the last, number 3, which has 1000." in error.hint
        words = await send(client, session, {2: piece(2)}, replace=True)
        await client.complete(session.session_id, parts=words, size=WHOLE)


async def test_a_part_that_no_file_can_have_is_not_signed(gate: Gate) -> None:
    async with gate.client() as client:
        session = await client.create("file", None, part_size=PART)
        for number, size, code in (
            (2, 0, "part_length_mismatch"),
            (1, PART + 1, "part_length_mismatch"),
            (1, -1, "part_length_mismatch"),
            (10_001, 5, "part_number_out_of_range"),
            (0, 5, "part_number_out_of_range"),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await client.sign(session.session_id, [{"part_number": number, "size": size}])
            assert caught.value.code == code, (number, size)
        await client.abort(session.session_id)
