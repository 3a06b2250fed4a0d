"""Where only the gateway reaches the store, the bytes go through it: by themselves, and said once."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import minio
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from client.between import Fault
from client.gate import PART, Gate, Uploading, running_gate, write_file
from servers import S3Target

from gateway.client import Downloader, DownloadOptions, Uploader, UploadOptions
from gateway.client.relay import RelayConnection
from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.errors import (
    Conflict,
    Corrupt,
    Gone,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)

RELAYED = r"/parts/\d+(\?|$)"
SIGNED = r"/parts/sign$"
ACKNOWLEDGED = r"/parts$"
RANGE = 1 << 20
SIZE = 3 * PART + 5


def problem(status: int, code: str, **fields: Any) -> tuple[int, dict[str, str], bytes]:
    """Give an answer as a gateway words it."""
    body = {"status": status, "code": code, "message": "No.", "hint": "", **fields}
    return status, {"Content-Type": "application/problem+json"}, orjson.dumps(body)


def bytes_of(file: Path) -> bytes:
    return file.read_bytes()


async def one_block(data: bytes) -> AsyncIterator[bytes]:
    yield data


def relayed_parts(gate: Gate) -> int:
    return gate.api.count("PUT", RELAYED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_file(tmp_path / "file.bin", SIZE)
    return tmp_path / "file.bin"


async def assert_stored(gate: Gate, receipt: Any, file: Path) -> None:
    assert (receipt.state, receipt.verified_by) == ("completed", "client_parts")
    assert await gate.content(receipt.object) == bytes_of(file)


class TestUploading:
    async def test_a_store_that_refuses_connections_is_gone_around(
        self, uploading: Uploading, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = uploading.gate
        with caplog.at_level(logging.WARNING, "gateway.client"):
            async with gate.store.closed():
                receipt = await uploading.run(file)
        await assert_stored(gate, receipt, file)
        assert (receipt.relayed, receipt.bytes_relayed) == (True, SIZE)
        assert (receipt.parts_sent, receipt.bytes_sent) == (4, SIZE)
        assert uploading.uploader is not None
        assert uploading.uploader.progress.relayed
        assert gate.api.stored == dict.fromkeys(range(1, 5), 1)
        # The gateway has recorded them itself.
        assert gate.api.count("POST", ACKNOWLEDGED) == 0
        (record,) = caplog.records
        assert record.message.startswith("The store cannot be reached from here")

    async def test_the_next_upload_tries_the_store_first(
        self, uploading: Uploading, file: Path, tmp_path: Path
    ) -> None:
        gate = uploading.gate
        write_file(tmp_path / "other.bin", PART, seed=2)
        async with gate.client() as client:
            options = UploadOptions(parallel=2, part_size=PART, state_dir=tmp_path / "state")
            uploader = Uploader(client, options)
            async with gate.store.closed():
                assert (await uploader.upload(file)).relayed
            gate.reset()
            receipt = await uploader.upload(tmp_path / "other.bin")
        assert (receipt.relayed, receipt.bytes_relayed) == (False, 0)
        assert not uploader.progress.relayed
        assert (relayed_parts(gate), gate.store.stored) == (0, {1: 1})

    @pytest.mark.parametrize("manner", ["silent", "swallowing"])
    async def test_a_store_behind_a_black_hole_costs_one_timeout(
        self, uploading: Uploading, file: Path, manner: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.client.route.PROBE_TIMEOUT", 0.5)
        gate = uploading.gate
        hole: Callable[[], AbstractAsyncContextManager[None]] = getattr(gate.store, manner)
        async with hole():
            # A part fits into the buffers of no connection, so each stands still at once.
            receipt = await uploading.run(file, stall_timeout=1.0, connect_timeout=0.5)
        await assert_stored(gate, receipt, file)
        assert receipt.bytes_relayed == SIZE

    @pytest.mark.parametrize("size", [0, 1])
    async def test_files_of_next_to_nothing(
        self, uploading: Uploading, tmp_path: Path, size: int
    ) -> None:
        write_file(tmp_path / "small.bin", size)
        async with uploading.gate.store.closed():
            receipt = await uploading.run(tmp_path / "small.bin")
        await assert_stored(uploading.gate, receipt, tmp_path / "small.bin")
        assert (receipt.relayed, receipt.bytes_relayed) == (True, size)

    async def test_a_stream_is_gone_around_with_too(
        self, gate: Gate, file: Path, tmp_path: Path
    ) -> None:
        options = UploadOptions(parallel=2, part_size=PART, spool_dir=tmp_path)
        async with gate.client() as client, gate.store.closed():
            uploader = Uploader(client, options)
            with file.open("rb") as stream:
                receipt = await uploader.upload_stream(stream, name="stream.bin")
        await assert_stored(gate, receipt, file)
        assert receipt.bytes_relayed == SIZE

    async def test_a_store_that_has_answered_is_waited_for(
        self, uploading: Uploading, file: Path
    ) -> None:
        gate = uploading.gate
        task = asyncio.create_task(uploading.run(file, parallel=1))
        async with asyncio.timeout(30):
            await gate.store.part_stored.wait()
            cut = gate.store.add(Fault("PUT", "partNumber=", times=3, cut_after=1))
            receipt = await task
        assert cut.hits == 3
        await assert_stored(gate, receipt, file)
        assert (receipt.relayed, relayed_parts(gate)) == (False, 0)

    async def test_a_store_that_answers_others_is_tried_again(
        self, uploading: Uploading, file: Path
    ) -> None:
        # The first PUTs break off, and the store is seen to be there all the same.
        uploading.gate.store.add(Fault("PUT", "partNumber=", times=4, cut_after=1))
        receipt = await uploading.run(file)
        await assert_stored(uploading.gate, receipt, file)
        assert (receipt.relayed, relayed_parts(uploading.gate)) == (False, 0)

    async def test_a_gateway_that_does_not_answer_either_is_no_reason_to_relay(
        self, uploading: Uploading, file: Path
    ) -> None:
        asked = uploading.gate.api.add(
            Fault("GET", r"/parts\?limit=1$", times=1, answer=problem(503, "storage_unavailable"))
        )
        async with uploading.gate.store.closed():
            with pytest.raises(Unavailable) as caught:
                await uploading.run(file, give_up_after=0.3)
        assert caught.value.code == "unreachable"
        assert asked.hits == 1
        assert relayed_parts(uploading.gate) == 0

    async def test_never_means_never(self, uploading: Uploading, file: Path) -> None:
        async with uploading.gate.store.closed():
            with pytest.raises(Unavailable) as caught:
                await uploading.run(file, relay="never", give_up_after=0.3)
        assert caught.value.code == "unreachable"
        assert relayed_parts(uploading.gate) == 0

    async def test_always_signs_nothing_and_never_looks_for_the_store(
        self, uploading: Uploading, file: Path
    ) -> None:
        gate = uploading.gate
        receipt = await uploading.run(file, relay="always")
        await assert_stored(gate, receipt, file)
        assert receipt.bytes_relayed == SIZE
        assert gate.api.count("POST", SIGNED) == 0
        assert gate.store.seen == []

    def test_other_words_are_refused(self) -> None:
        for options in (UploadOptions, DownloadOptions):
            with pytest.raises(InvalidRequest):
                options(relay="sometimes")  # type: ignore[arg-type]


class TestInterrupted:
    async def test_what_was_relayed_is_not_sent_again(
        self, uploading: Uploading, file: Path
    ) -> None:
        gate = uploading.gate
        async with gate.store.closed():
            task = asyncio.create_task(uploading.run(file, parallel=1))
            async with asyncio.timeout(30):
                await gate.api.part_stored.wait()
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled()
        done = set(gate.api.stored)
        gate.reset()
        # Meanwhile the store can be reached: the rest goes there.
        receipt = await uploading.run(file)
        await assert_stored(gate, receipt, file)
        assert set(gate.store.stored) == {1, 2, 3, 4} - done
        assert not receipt.relayed

    async def test_a_session_that_is_aborted_meanwhile_ends_it(
        self, uploading: Uploading, file: Path
    ) -> None:
        async def abort(request: web.Request) -> None:
            async with uploading.gate.client() as client:
                await client.abort(request.path.split("/")[2])

        uploading.gate.api.add(Fault("PUT", RELAYED, hook=abort))
        with pytest.raises(Gone):
            await uploading.run(file, relay="always", parallel=1)


class TestWhatTheGatewayRefuses:
    @pytest.mark.parametrize(
        "answer",
        [
            problem(409, "part_busy", retryable=True),
            problem(503, "part_damaged", retryable=True),
            problem(503, "too_many_parts_in_flight", retryable=True),
            (502, {}, b"<html>"),
        ],
        ids=lambda answer: str(answer[2][:60]),
    )
    async def test_what_passes_is_waited_out(
        self, uploading: Uploading, file: Path, answer: Any
    ) -> None:
        fault = uploading.gate.api.add(Fault("PUT", RELAYED, times=2, answer=answer))
        receipt = await uploading.run(file, relay="always")
        await assert_stored(uploading.gate, receipt, file)
        assert fault.hits == 2

    @pytest.mark.parametrize("harm", [{"cut_after": 1}, {"lose_reply": True}, {"flip": True}])
    async def test_parts_that_do_not_arrive_well_are_sent_again(
        self, uploading: Uploading, file: Path, harm: Any
    ) -> None:
        fault = uploading.gate.api.add(Fault("PUT", RELAYED, times=2, **harm))
        receipt = await uploading.run(file, relay="always")
        await assert_stored(uploading.gate, receipt, file)
        assert fault.hits == 2

    async def test_a_line_that_damages_every_part_is_named(
        self, uploading: Uploading, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.client.sender.backoff", lambda _: 0.0)
        uploading.gate.api.add(Fault("PUT", RELAYED, times=100, flip=True))
        with pytest.raises(Corrupt) as caught:
            await uploading.run(file, relay="always")
        assert caught.value.code == "damaged_on_the_way"

    async def test_other_bytes_of_another_client_are_replaced(
        self, uploading: Uploading, file: Path, tmp_path: Path
    ) -> None:
        gate = uploading.gate
        other = write_file(tmp_path / "other.bin", PART, seed=9)

        async def be_first(request: web.Request) -> None:
            async with gate.client() as client:
                session = await client.get(request.path.split("/")[2])
                async with RelayConnection(
                    client, 1, stall_timeout=9.0, connect_timeout=9.0
                ) as relay:
                    await relay.put(
                        session.session_id,
                        1,
                        one_block(other),
                        lambda _: None,
                        size=PART,
                        checksum=Checksum(
                            session.checksum_algorithm,
                            ALGORITHMS[session.checksum_algorithm].value_of(other),
                        ),
                        replace=False,
                    )

        gate.api.add(Fault("PUT", r"/parts/1$", hook=be_first))
        receipt = await uploading.run(file, relay="always")
        await assert_stored(gate, receipt, file)
        assert gate.api.count("PUT", r"/parts/1\?replace=1$") == 1

    async def test_a_proxy_that_takes_no_large_bodies_is_named(
        self, uploading: Uploading, file: Path
    ) -> None:
        too_large = (413, {"Content-Type": "text/html"}, b"<html>nginx</html>")
        uploading.gate.api.add(Fault("PUT", RELAYED, times=9, answer=too_large))
        with pytest.raises(TooLarge) as caught:
            await uploading.run(file, relay="always")
        assert caught.value.code == "relay_too_large"
        assert "client_max_body_size" in caught.value.hint

    async def test_what_never_passes_ends_it_at_once(
        self, uploading: Uploading, file: Path
    ) -> None:
        fault = uploading.gate.api.add(
            Fault("PUT", RELAYED, times=9, answer=problem(404, "session_not_found"))
        )
        with pytest.raises(NotFound):
            await uploading.run(file, relay="always", parallel=1)
        assert fault.hits == 1


@pytest_asyncio.fixture(scope="module")
async def gate_with_one_way(
    s3: S3Target, oracle: minio.Minio, redis_url: str
) -> AsyncIterator[Gate]:
    """Give a gateway that has no other way to the store than its clients."""
    async with running_gate(s3, oracle, redis_url, between=True) as running:
        yield running


async def test_a_store_that_is_down_for_everybody_is_waited_for(
    gate_with_one_way: Gate, file: Path, tmp_path: Path
) -> None:
    gate = gate_with_one_way
    uploading = Uploading(gate, tmp_path / "state")

    async def shut(_: web.Request) -> None:
        # The session has just been made, for which the gateway needs the store.
        await gate.store.close()

    gate.api.add(Fault("POST", SIGNED, hook=shut))
    task = asyncio.create_task(uploading.run(file))
    try:
        async with asyncio.timeout(30):
            # Asked for, and not granted.
            # The words for people are a plain field; nothing tells when it changes.
            while not (gate.api.count("GET", r"/parts\?limit=1$") and _trouble(uploading)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        await gate.store.open()
    receipt = await task
    await assert_stored(gate, receipt, file)
    assert (receipt.relayed, relayed_parts(gate)) == (False, 0)


def _trouble(uploading: Uploading) -> str:
    return uploading.uploader.progress.trouble if uploading.uploader else ""


class TestDownloading:
    @pytest.fixture(autouse=True)
    def small_ranges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.client.downloader.RANGE", RANGE)

    @pytest.fixture
    async def uploaded(self, uploading: Uploading, file: Path) -> str:
        receipt = await uploading.run(file)
        uploading.gate.reset()
        return str(receipt.session_id)

    async def download(self, gate: Gate, session_id: str, path: Path, **options: Any) -> Any:
        async with gate.client() as client:
            downloader = Downloader(client, DownloadOptions(parallel=2, **options))
            return await downloader.download(session_id, path)

    async def test_a_store_out_of_reach_is_gone_around(
        self, gate: Gate, uploaded: str, file: Path, tmp_path: Path
    ) -> None:
        async with gate.store.closed():
            receipt = await self.download(gate, uploaded, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == bytes_of(file)
        assert (receipt.relayed, receipt.bytes_relayed) == (True, SIZE)
        assert receipt.checksum is not None
        assert gate.api.count("GET", r"/content\?relay=1$") == 16 + 1

    async def test_into_a_stream_too(self, gate: Gate, uploaded: str, file: Path) -> None:
        writer = io.BytesIO()
        async with gate.client() as client, gate.store.closed():
            receipt = await Downloader(client).download_to(uploaded, writer)
        assert writer.getvalue() == bytes_of(file)
        assert receipt.relayed

    async def test_what_fails_on_the_way_through_the_gateway_is_asked_for_again(
        self, gate: Gate, uploaded: str, file: Path, tmp_path: Path
    ) -> None:
        busy = problem(503, "too_many_relays", retryable=True)
        faults = [
            gate.api.add(Fault("GET", r"relay=1$", times=2, answer=busy)),
            gate.api.add(Fault("GET", r"relay=1$", times=2, lose_reply=True)),
        ]
        receipt = await self.download(gate, uploaded, tmp_path / "back", relay="always")
        assert (tmp_path / "back").read_bytes() == bytes_of(file)
        assert [fault.hits for fault in faults] == [2, 2]
        assert receipt.bytes_relayed == SIZE
        assert gate.store.seen == []

    async def test_never_means_never(self, gate: Gate, uploaded: str, tmp_path: Path) -> None:
        async with gate.store.closed():
            with pytest.raises(Unavailable) as caught:
                await self.download(
                    gate, uploaded, tmp_path / "back", relay="never", give_up_after=0.3
                )
        assert caught.value.code == "unreachable"
        assert gate.api.count("GET", r"relay=1$") == 0

    async def test_an_object_that_was_replaced_is_noticed_through_the_gateway_too(
        self, gate: Gate, uploaded: str, tmp_path: Path
    ) -> None:
        async with gate.client() as client:
            session = await client.get(uploaded)
        await gate.overwrite(session.raw["object"], b"something else")
        with pytest.raises((Conflict, Corrupt, Gone)):
            await self.download(gate, uploaded, tmp_path / "back", relay="always")
        assert not (tmp_path / "back").exists()
