"""Streams of unknown length: whole, verified, in bounded room, and never completed by half."""

import asyncio
import gzip
import io
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from client.between import Fault, store_error
from client.gate import MIB, PART, Gate

from gateway.client import Checksum, Uploader, UploadOptions
from gateway.client.patience import Patience
from gateway.client.spool import Spool
from gateway.client.stream import StreamReader
from gateway.core.checksums import ALGORITHMS
from gateway.core.plan import PartPlan
from gateway.errors import (
    Conflict,
    Corrupt,
    Gone,
    InvalidRequest,
    StorageFull,
    TooLarge,
    Unavailable,
)

PARTS = r"partNumber="


class Streaming:
    """Uploads streams, as often as a test likes."""

    def __init__(self, gate: Gate, spool_dir: Path) -> None:
        self.gate = gate
        self.spool_dir = spool_dir
        self.uploader: Uploader | None = None

    async def run(self, stream: Any, **given: Any) -> Any:
        """Upload to the end, and return the receipt."""
        client = given.pop("client", {})
        about = {name: given.pop(name) for name in ("size", "checksum") if name in given}
        options = {
            "parallel": 2,
            "part_size": PART,
            "give_up_after": 20.0,
            "spool_dir": self.spool_dir,
            **given,
        }
        async with self.gate.client(**client) as connected:
            self.uploader = Uploader(connected, UploadOptions(**options))
            return await self.uploader.upload_stream(stream, name="dump.sql", **about)

    async def state(self) -> str:
        """Return the state of the session that the last upload had."""
        assert self.uploader is not None
        async with self.gate.client() as client:
            return (await client.get(self.uploader.progress.session_id)).state


@pytest.fixture
def streaming(gate: Gate, tmp_path: Path) -> Streaming:
    return Streaming(gate, tmp_path)


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def in_blocks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 1), (1, 1), (PART, 1), (PART + 1, 2), (4 * PART + 7, 5)],
)
async def test_a_stream_of_any_length_becomes_a_verified_object(
    streaming: Streaming, size: int, parts: int
) -> None:
    data = random_bytes(size)
    receipt = await streaming.run(io.BytesIO(data))
    assert await streaming.gate.content(receipt.object) == data
    assert (receipt.state, receipt.verified_by) == ("completed", "client_parts")
    assert (receipt.size, receipt.parts, receipt.parts_sent) == (size, parts, parts)
    assert receipt.checksum.value == ALGORITHMS[receipt.checksum.algorithm].value_of(data)


async def test_each_part_goes_out_with_its_checksum_and_length(streaming: Streaming) -> None:
    await streaming.run(io.BytesIO(random_bytes(PART + 5)))
    sent = streaming.gate.store.headers
    assert sorted(int(headers["Content-Length"]) for headers in sent) == [5, PART]
    assert all("x-amz-checksum-crc64nvme" in headers for headers in sent)


@pytest.mark.parametrize("size", [1000, 7 * MIB])
async def test_an_async_iterable_may_cut_its_blocks_as_it_likes(
    streaming: Streaming, size: int
) -> None:
    data = random_bytes(PART + 1234)
    receipt = await streaming.run(in_blocks(data, size))
    assert await streaming.gate.content(receipt.object) == data


async def test_a_reader_of_asyncio_is_a_stream_too(streaming: Streaming) -> None:
    reader = asyncio.StreamReader()
    data = random_bytes(PART + 1)
    reader.feed_data(data)
    reader.feed_eof()
    receipt = await streaming.run(reader)
    assert await streaming.gate.content(receipt.object) == data


async def test_parts_go_out_while_the_producer_goes_on(streaming: Streaming) -> None:
    data = random_bytes(3 * PART)
    stored = streaming.gate.store.stored

    async def produce() -> AsyncIterator[bytes]:
        for number in range(3):
            yield data[number * PART : (number + 1) * PART]
            async with asyncio.timeout(20):
                while stored.total() <= number:
                    await streaming.gate.store.part_stored.wait()
                    streaming.gate.store.part_stored.clear()

    receipt = await streaming.run(produce())
    assert await streaming.gate.content(receipt.object) == data


async def test_a_producer_that_is_quicker_than_the_store_has_to_wait(streaming: Streaming) -> None:
    given = 0
    held, go_on = asyncio.Event(), asyncio.Event()

    async def produce() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(12):
            yield random_bytes(PART)
            given += 1

    async def hold(_: web.Request) -> None:
        held.set()
        await go_on.wait()

    streaming.gate.store.add(Fault("PUT", PARTS, times=99, hook=hold))
    task = asyncio.create_task(streaming.run(produce()))
    async with asyncio.timeout(30):
        await held.wait()
        # Two parts are on their way and two wait in the spool; no fifth one is asked for.
        while given < 3:  # noqa: ASYNC110 - a plain number of the producer's
            await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert given == 3
    go_on.set()
    assert (await task).parts == 12


async def test_nothing_is_left_in_the_spool_s_folder(streaming: Streaming, tmp_path: Path) -> None:
    await streaming.run(io.BytesIO(random_bytes(2 * PART)))
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a folder of nothing


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            {"answer": store_error(503, "SlowDown")},
            {"lose_reply": True},
            {"cut_after": MIB},
            {"flip": True},
        ],
    )
    async def test_a_passing_fault_of_the_store_is_borne(
        self, streaming: Streaming, fault: dict[str, Any]
    ) -> None:
        data = random_bytes(4 * PART + 9)
        added = streaming.gate.store.add(Fault("PUT", PARTS, times=2, **fault))
        receipt = await streaming.run(io.BytesIO(data))
        assert added.hits == 2
        assert await streaming.gate.content(receipt.object) == data

    @pytest.mark.parametrize("path", ["/parts/sign$", "/parts$", "/complete"])
    async def test_a_lost_answer_of_the_gateway_is_borne(
        self, streaming: Streaming, path: str
    ) -> None:
        data = random_bytes(2 * PART + 9)
        added = streaming.gate.api.add(Fault("POST", path, lose_reply=True))
        receipt = await streaming.run(io.BytesIO(data))
        assert added.hits == 1
        assert await streaming.gate.content(receipt.object) == data

    async def test_a_producer_s_pause_is_not_held_against_the_store(
        self, streaming: Streaming, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = random_bytes(PART + 9)
        now = 0.0

        async def produce() -> AsyncIterator[bytes]:
            nonlocal now
            yield data[:PART]
            async with asyncio.timeout(30):
                while streaming.uploader is None or not streaming.uploader.sent.parts:  # noqa: ASYNC110 - a plain number
                    await asyncio.sleep(0.01)
            # Longer than the patience with the store.
            now += 1000.0
            yield data[PART:]

        monkeypatch.setattr(
            "gateway.client.stream_upload.Patience", lambda limit: Patience(limit, lambda: now)
        )
        streaming.gate.store.add(
            Fault("PUT", r"partNumber=2\b", answer=store_error(503, "SlowDown"))
        )
        receipt = await streaming.run(produce())
        assert await streaming.gate.content(receipt.object) == data

    async def test_a_store_that_stays_away_is_given_up_and_the_session_aborted(
        self, streaming: Streaming
    ) -> None:
        streaming.gate.store.add(Fault("PUT", ".", times=999, answer=store_error(503, "SlowDown")))
        with pytest.raises(Unavailable):
            await streaming.run(io.BytesIO(random_bytes(9 * PART)), give_up_after=0.3)
        assert await streaming.state() == "aborted"

    async def test_parts_that_the_store_has_lost_cannot_be_sent_again_and_that_is_said(
        self, streaming: Streaming
    ) -> None:
        problem = {
            "code": "parts_missing",
            "message": "1 part is missing.",
            "details": {"missing": "1", "wrong_size": "", "changed": "1"},
        }
        answer = (409, {"Content-Type": "application/problem+json"}, _json(problem))
        streaming.gate.api.add(Fault("POST", "/complete", answer=answer))
        with pytest.raises(Conflict) as caught:
            await streaming.run(io.BytesIO(random_bytes(PART)))
        assert caught.value.code == "parts_missing"
        assert "beginning" in caught.value.hint
        assert await streaming.state() == "aborted"

    async def test_a_gateway_that_goes_away_at_the_end_finds_everything_kept(
        self, streaming: Streaming
    ) -> None:
        down = (503, {}, b"")
        fault = streaming.gate.api.add(Fault("POST", "/complete", times=99, answer=down))
        data = random_bytes(PART + 1)
        with pytest.raises(Unavailable):
            await streaming.run(io.BytesIO(data), client={"retry_for": 0.3})
        fault.times = 0
        assert await streaming.state() == "open"
        assert streaming.uploader is not None
        async with streaming.gate.client() as client:
            session, _ = await client.complete(
                streaming.uploader.progress.session_id, size=len(data)
            )
        assert session.state == "completed"
        assert await streaming.gate.content(session.raw["object"]) == data

    async def test_somebody_s_abort_ends_it(self, streaming: Streaming) -> None:
        async def produce() -> AsyncIterator[bytes]:
            yield random_bytes(PART)
            assert streaming.uploader is not None
            async with streaming.gate.client() as client:
                await client.abort(streaming.uploader.progress.session_id)
            yield random_bytes(PART)

        with pytest.raises(Gone):
            await streaming.run(produce())


class TestFailingProducers:
    async def test_an_iterable_that_raises_is_never_completed(self, streaming: Streaming) -> None:
        class ProducerFailed(Exception):
            pass

        async def produce() -> AsyncIterator[bytes]:
            yield random_bytes(PART + 1)
            raise ProducerFailed

        with pytest.raises(ProducerFailed):
            await streaming.run(produce())
        assert streaming.gate.api.count("POST", "/complete") == 0
        assert await streaming.state() == "aborted"

    async def test_a_read_that_fails_is_never_completed(
        self, streaming: Streaming, tmp_path: Path
    ) -> None:
        closed = (tmp_path / "closed").open("wb")
        for broken in (closed, closed.raw):
            with pytest.raises(InvalidRequest) as caught:
                await streaming.run(broken)
            assert caught.value.code == "stream_unreadable"
            assert await streaming.state() == "aborted"
        closed.close()

    async def test_a_decoder_that_finds_its_input_cut_off_is_no_end(
        self, streaming: Streaming
    ) -> None:
        packed = gzip.compress(random_bytes(3 * MIB))
        with pytest.raises(EOFError):
            await streaming.run(gzip.GzipFile(fileobj=io.BytesIO(packed[:-20])))
        assert await streaming.state() == "aborted"

    @pytest.mark.parametrize("stream", [object(), "text", [b"bytes"]])
    async def test_what_is_no_stream_makes_no_session(
        self, streaming: Streaming, stream: Any
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await streaming.run(stream)
        assert caught.value.code == "stream_unreadable"
        assert streaming.gate.api.count("POST", "/uploads$") == 0

    async def test_text_is_not_taken_for_bytes(self, streaming: Streaming) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await streaming.run(io.StringIO("text"))
        assert caught.value.code == "stream_unreadable"
        assert await streaming.state() == "aborted"

    async def test_a_non_blocking_file_without_data_is_no_end(self, streaming: Streaming) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with (
            os.fdopen(reading, "rb", buffering=0) as stream,
            pytest.raises(InvalidRequest) as caught,
        ):
            await streaming.run(stream)
        os.close(writing)
        assert caught.value.code == "stream_unreadable"

    async def test_a_cancelled_stream_is_aborted_though_its_read_blocks(
        self, streaming: Streaming
    ) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as stream:
            task = asyncio.create_task(streaming.run(stream))
            await asyncio.to_thread(_write_all, writing, random_bytes(PART))
            async with asyncio.timeout(30):
                await streaming.gate.store.part_stored.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await streaming.state() == "aborted"
            os.close(writing)


class TestDeclared:
    async def test_a_declared_size_is_known_from_the_beginning(self, streaming: Streaming) -> None:
        data = random_bytes(2 * PART + 1)
        receipt = await streaming.run(io.BytesIO(data), size=len(data), part_size=None)
        assert receipt.parts == 2
        assert await streaming.gate.content(receipt.object) == data

    @pytest.mark.parametrize("declared", [0, PART, PART + 2, 3 * PART])
    async def test_another_size_than_declared_is_never_completed(
        self, streaming: Streaming, declared: int
    ) -> None:
        with pytest.raises(Corrupt) as caught:
            await streaming.run(io.BytesIO(random_bytes(PART + 1)), size=declared)
        assert caught.value.code == "stream_mismatch"
        assert streaming.gate.api.count("POST", "/complete") == 0
        assert await streaming.state() == "aborted"

    async def test_too_much_is_refused_before_the_producer_is_done(
        self, streaming: Streaming
    ) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(MIB)

        with pytest.raises(Corrupt):
            await streaming.run(endless(), size=PART)

    @pytest.mark.parametrize("algorithm", ["crc64nvme", "md5"])
    async def test_a_declared_checksum_is_what_the_object_is_verified_by(
        self, streaming: Streaming, algorithm: str
    ) -> None:
        data = random_bytes(PART + 3)
        declared = Checksum(algorithm, ALGORITHMS[algorithm].value_of(data))
        receipt = await streaming.run(io.BytesIO(data), checksum=declared)
        assert receipt.verified_by == "client_file"

    async def test_another_checksum_than_declared_is_never_completed(
        self, streaming: Streaming
    ) -> None:
        declared = Checksum("sha256", ALGORITHMS["sha256"].value_of(b"something else"))
        with pytest.raises(Corrupt) as caught:
            await streaming.run(io.BytesIO(random_bytes(PART + 3)), checksum=declared)
        assert caught.value.code == "stream_mismatch"
        assert streaming.gate.api.count("POST", "/complete") == 0
        assert await streaming.state() == "aborted"


class TestLimits:
    @pytest.fixture
    def three_parts_at_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = "gateway.client.model.Session.plan"
        monkeypatch.setattr(plan, lambda session: PartPlan(session.size, session.part_size, 3))

    @pytest.mark.usefixtures("three_parts_at_most")
    async def test_a_stream_of_exactly_all_parts_fits(self, streaming: Streaming) -> None:
        receipt = await streaming.run(io.BytesIO(random_bytes(3 * PART)))
        assert (receipt.state, receipt.parts) == ("completed", 3)

    @pytest.mark.usefixtures("three_parts_at_most")
    async def test_a_byte_more_than_all_parts_is_refused_at_once(
        self, streaming: Streaming
    ) -> None:
        async def produce() -> AsyncIterator[bytes]:
            yield random_bytes(3 * PART)
            yield b"x"
            raise AssertionError("Nothing more must be asked for.")

        with pytest.raises(TooLarge) as caught:
            await streaming.run(produce())
        assert caught.value.code == "stream_too_large"
        assert "--part-size" in caught.value.hint
        assert await streaming.state() == "aborted"


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


async def test_a_full_disk_is_said_and_the_session_aborted(
    streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.client.spool.os.pwrite", _full)
    with pytest.raises(StorageFull) as caught:
        await streaming.run(io.BytesIO(random_bytes(PART)))
    assert caught.value.code == "disk_full"
    assert "TMPDIR" in caught.value.hint
    assert await streaming.state() == "aborted"


async def test_a_folder_that_is_not_there_is_said(streaming: Streaming, tmp_path: Path) -> None:
    with pytest.raises(Conflict) as caught:
        await streaming.run(io.BytesIO(b"x"), spool_dir=tmp_path / "missing")
    assert caught.value.code == "cannot_write"


async def test_a_damaged_spool_is_never_sent_as_it_is(
    streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Spool.write

    def damaged(spool: Spool, number: int, position: int, data: bytes) -> None:
        write(spool, number, position, b"x" + data[1:])

    monkeypatch.setattr(Spool, "write", damaged)
    with pytest.raises(Corrupt) as caught:
        await streaming.run(io.BytesIO(random_bytes(PART)))
    assert caught.value.code == "spool_damaged"
    assert await streaming.state() == "aborted"


class TestReading:
    @pytest.mark.parametrize("cut", [1, 7, 1000, 5000])
    async def test_reads_are_full_until_the_end(self, cut: int) -> None:
        data = random_bytes(4321)
        reader = StreamReader(in_blocks(data, cut))
        got = [await reader.read(1000) for _ in range(6)]
        assert [len(piece) for piece in got] == [1000, 1000, 1000, 1000, 321, 0]
        assert b"".join(got) == data
        await reader.close()

    async def test_a_reused_buffer_is_copied(self) -> None:
        buffer = bytearray(b"one")

        async def produce() -> AsyncIterator[bytearray]:
            yield buffer
            buffer[:] = b"two"
            yield buffer

        reader = StreamReader(produce())  # type: ignore[arg-type]
        assert await reader.read(6) == b"onetwo"

    async def test_errors_come_out_as_they_are(self) -> None:
        class Odd:
            def read(self, _: int) -> Iterator[bytes]:
                raise StopIteration

        with pytest.raises(RuntimeError):
            await StreamReader(Odd()).read(1)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _json(value: object) -> bytes:
    return orjson.dumps(value)
