"""Uploading through a real gateway into a real store, undisturbed and with every disturbance."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from client.between import Fault, store_error
from client.gate import MIB, PART, Uploading, write_file

from gateway.client import GatewayClient, Uploader, UploadOptions
from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, Corrupt, Forbidden, Gone, InvalidRequest, Unavailable

PARTS = r"partNumber="


async def stored_bytes(uploading: Uploading, receipt: Any) -> bytes:
    return await uploading.gate.content(receipt.object)


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 1), (1, 1), (PART - 1, 1), (PART, 1), (PART + 1, 2), (3 * PART, 3)],
)
async def test_a_file_of_any_size_becomes_a_verified_object(
    uploading: Uploading, tmp_path: Path, size: int, parts: int
) -> None:
    data = write_file(tmp_path / "file.bin", size)
    receipt = await uploading.run(tmp_path / "file.bin")
    assert await stored_bytes(uploading, receipt) == data
    assert (receipt.state, receipt.verified_by) == ("completed", "client_parts")
    assert (receipt.parts, receipt.parts_sent, receipt.bytes_sent) == (parts, parts, size)
    assert receipt.checksum.value == ALGORITHMS[receipt.checksum.algorithm].value_of(data)


async def test_each_part_goes_out_with_its_checksum_and_nothing_that_was_not_asked_for(
    uploading: Uploading, tmp_path: Path
) -> None:
    write_file(tmp_path / "file.bin", 2 * PART)
    await uploading.run(tmp_path / "file.bin")
    sent = [{name.lower() for name in headers} for headers in uploading.gate.store.headers]
    assert sent == [{"host", "content-length", "x-amz-checksum-crc64nvme"}] * 2


async def test_parts_are_sent_in_parallel_but_not_in_more_than_asked_for(
    uploading: Uploading, tmp_path: Path
) -> None:
    write_file(tmp_path / "file.bin", 6 * PART)
    running, most, both = 0, 0, asyncio.Event()

    async def wait_for_another(_: web.Request) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            both.set()
        # A part ends only when three are on their way at once.
        async with asyncio.timeout(20):
            await both.wait()
        running -= 1

    uploading.gate.store.add(Fault("PUT", PARTS, times=6, hook=wait_for_another))
    await uploading.run(tmp_path / "file.bin", parallel=3)
    assert most == 3


async def test_many_parts_are_signed_and_acknowledged_with_few_calls(
    uploading: Uploading, tmp_path: Path
) -> None:
    # Parts of 5 MiB are the least that a store takes, so this file is as small as it can be.
    write_file(tmp_path / "file.bin", 20 * PART)
    await uploading.run(tmp_path / "file.bin", parallel=4)
    assert uploading.gate.api.count("POST", "/parts/sign$") <= 6
    assert uploading.gate.api.count("POST", "/parts$") <= 12


def note_signing(client: GatewayClient, then: Callable[[], None] = lambda: None) -> list[list[int]]:
    """Note the part numbers of each sign call that is answered from now on."""
    sign = client.sign
    calls: list[list[int]] = []

    async def noted(session_id: str, parts: Any) -> Any:
        signed = await sign(session_id, parts)
        calls.append([part["part_number"] for part in parts])
        then()
        return signed

    client.sign = noted  # type: ignore[method-assign]
    return calls


class TestResuming:
    async def test_only_missing_parts_are_sent_after_an_interruption(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 6 * PART)
        await uploading.interrupt(tmp_path / "file.bin", after=3)
        done = set(uploading.gate.store.stored)
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data
        assert {n: uploading.gate.store.stored[n] for n in done} == dict.fromkeys(done, 1)
        assert receipt.parts_sent <= 6 - len(done)

    async def test_an_interruption_acknowledges_what_is_stored(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", 6 * PART)
        await uploading.interrupt(tmp_path / "file.bin", after=2, heard=1)
        assert uploading.uploader is not None
        async with uploading.gate.client() as client:
            session = await client.get(uploading.uploader.progress.session_id)
        assert session.state == "open"
        assert session.received_parts == uploading.uploader.sent.parts >= 1

    async def test_the_session_is_found_by_its_fingerprint_when_the_journal_is_gone(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 5 * PART)
        await uploading.interrupt(tmp_path / "file.bin", after=2)
        assert uploading.uploader is not None
        before = uploading.uploader.progress.session_id
        done = set(uploading.gate.store.stored)
        for journal in uploading.state_dir.rglob("*.jsonl"):
            journal.unlink()
        receipt = await uploading.run(tmp_path / "file.bin")
        assert receipt.session_id == before
        assert receipt.parts_sent <= 5 - len(done)
        assert await stored_bytes(uploading, receipt) == data

    async def test_a_damaged_journal_does_no_harm(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 4 * PART)
        await uploading.interrupt(tmp_path / "file.bin", after=1)
        for journal in uploading.state_dir.rglob("*.jsonl"):
            journal.write_bytes(b"\x00 what is this?\n")
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data
        assert receipt.parts_sent < 4

    async def test_a_file_edited_between_two_tries_is_never_a_mixture(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        data = write_file(file, 6 * PART)
        await uploading.interrupt(file, after=3)
        assert uploading.uploader is not None
        session_id = uploading.uploader.progress.session_id
        edited = min(uploading.gate.store.stored)
        # One byte that no sample of the fingerprint touches, size and time as before.
        before = file.stat()
        position = (edited - 1) * PART + 1_000_000
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        file.write_bytes(changed)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        receipt = await uploading.run(file)
        assert receipt.session_id == session_id
        assert uploading.gate.store.stored[edited] == 2
        assert await stored_bytes(uploading, receipt) == changed

    async def test_a_file_edited_to_another_time_gets_a_session_of_its_own(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        write_file(file, 4 * PART)
        await uploading.interrupt(file, after=1)
        assert uploading.uploader is not None
        session_id = uploading.uploader.progress.session_id
        edited = write_file(file, 4 * PART, seed=2)
        receipt = await uploading.run(file)
        assert receipt.session_id != session_id
        assert await stored_bytes(uploading, receipt) == edited

    async def test_a_completed_upload_is_not_reused_for_the_same_file(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", PART)
        first = await uploading.run(tmp_path / "file.bin")
        second = await uploading.run(tmp_path / "file.bin")
        assert first.session_id != second.session_id
        assert second.parts_sent == 1

    async def test_a_client_that_died_before_it_heard_of_completion_hears_of_it_next_time(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        data = write_file(file, 2 * PART)
        with pytest.raises(asyncio.CancelledError):
            await self._die_at_the_answer(uploading, file)
        sent = uploading.gate.store.stored.total()
        receipt = await uploading.run(file)
        assert uploading.gate.store.stored.total() == sent
        assert (receipt.state, receipt.parts_sent, receipt.bytes_sent) == ("completed", 0, 0)
        assert await stored_bytes(uploading, receipt) == data

    async def test_the_same_with_a_file_edited_meanwhile_makes_a_new_upload(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        data = write_file(file, 2 * PART)
        with pytest.raises(asyncio.CancelledError):
            await self._die_at_the_answer(uploading, file)
        before = file.stat()
        changed = data[:1_000_000] + bytes([data[1_000_000] ^ 1]) + data[1_000_001:]
        file.write_bytes(changed)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        receipt = await uploading.run(file)
        assert receipt.parts_sent == 2
        assert await stored_bytes(uploading, receipt) == changed

    async def _die_at_the_answer(self, uploading: Uploading, file: Path) -> None:
        task = asyncio.ensure_future(uploading.run(file))
        completing = uploading.gate.api.add(Fault("POST", "/complete", lose_reply=True))

        async def die(_: web.Request) -> None:
            task.cancel()
            await asyncio.wait([task])

        uploading.gate.api.add(Fault("POST", "/complete", times=9, hook=die))
        await asyncio.wait([task])
        assert completing.hits == 1
        task.result()

    async def test_two_uploads_of_one_file_do_not_work_against_each_other(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", 2 * PART)
        second: list[BaseException] = []

        async def try_again(_: web.Request) -> None:
            try:
                await Uploading(uploading.gate, uploading.state_dir).run(tmp_path / "file.bin")
            except Conflict as error:
                second.append(error)

        uploading.gate.store.add(Fault("PUT", PARTS, hook=try_again))
        receipt = await uploading.run(tmp_path / "file.bin")
        assert receipt.state == "completed"
        assert [error.code for error in second if isinstance(error, Conflict)] == ["upload_running"]

    async def test_a_session_that_was_aborted_is_not_gone_on_with(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 3 * PART)
        await uploading.interrupt(tmp_path / "file.bin", after=1)
        assert uploading.uploader is not None
        session_id = uploading.uploader.progress.session_id
        async with uploading.gate.client() as client:
            await client.abort(session_id)
        receipt = await uploading.run(tmp_path / "file.bin")
        assert receipt.session_id != session_id
        assert await stored_bytes(uploading, receipt) == data


class TestChangingFiles:
    async def test_a_file_written_to_meanwhile_ends_the_upload(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        write_file(file, 4 * PART)

        async def write(_: web.Request) -> None:
            with file.open("r+b") as out:
                out.seek(3 * PART)
                out.write(b"something else")

        uploading.gate.store.add(Fault("PUT", "partNumber=1&|partNumber=1$", hook=write))
        with pytest.raises(Conflict) as caught:
            await uploading.run(file)
        assert caught.value.code == "file_changed"
        assert uploading.gate.api.count("POST", "/complete") == 0

    async def test_a_file_cut_short_meanwhile_ends_the_upload(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        write_file(file, 40 * MIB)

        async def cut(_: web.Request) -> None:
            os.truncate(file, PART)

        uploading.gate.store.add(Fault("PUT", PARTS, hook=cut))
        with pytest.raises(Conflict) as caught:
            await uploading.run(file)
        assert caught.value.code == "file_changed"

    async def test_a_change_that_hides_behind_the_old_time_is_found_before_completion(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        write_file(file, 3 * PART)
        # Long ago, so that nothing but the change itself arouses suspicion.
        os.utime(file, ns=(10**18, 10**18))

        async def edit(_: web.Request) -> None:
            # The last part to leave: everything has been hashed and sent by then.
            with file.open("r+b") as out:
                out.seek(1_000_000)
                out.write(b"X")
            os.utime(file, ns=(10**18, 10**18))

        uploading.gate.api.add(Fault("POST", "/parts$", hook=edit))
        with pytest.raises(Conflict) as caught:
            await uploading.run(file)
        assert caught.value.code == "file_changed"
        assert uploading.gate.api.count("POST", "/complete") == 0

    async def test_permissions_changed_meanwhile_are_no_reason_to_stop(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        data = write_file(file, 2 * PART)

        async def change_mode(_: web.Request) -> None:
            file.chmod(0o600)

        uploading.gate.store.add(Fault("PUT", PARTS, hook=change_mode))
        receipt = await uploading.run(file)
        assert await stored_bytes(uploading, receipt) == data

    async def test_a_file_replaced_meanwhile_is_uploaded_as_it_was(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        file = tmp_path / "file.bin"
        data = write_file(file, 3 * PART)

        async def replace(_: web.Request) -> None:
            write_file(tmp_path / "other", 3 * PART, seed=2)
            (tmp_path / "other").replace(file)

        uploading.gate.store.add(Fault("PUT", PARTS, hook=replace))
        receipt = await uploading.run(file)
        assert await stored_bytes(uploading, receipt) == data


class TestStoreFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            {"answer": store_error(503, "SlowDown"), "times": 3},
            {"answer": store_error(500, "InternalError")},
            {"answer": (502, {}, b"<html>bad gateway</html>")},
            {"answer": (200, {}, b"")},
            {"answer": store_error(400, "RequestTimeout")},
            {"cut_after": 1},
            {"cut_after": MIB, "times": 2},
            {"lose_reply": True},
            {"flip": True},
        ],
        ids="-".join,
    )
    async def test_a_passing_fault_of_the_store_costs_only_that_part(
        self, uploading: Uploading, tmp_path: Path, fault: dict[str, Any]
    ) -> None:
        data = write_file(tmp_path / "file.bin", 4 * PART)
        planted = uploading.gate.store.add(Fault("PUT", r"partNumber=2\b", **{"times": 1, **fault}))
        receipt = await uploading.run(tmp_path / "file.bin")
        assert planted.hits == planted.times
        assert await stored_bytes(uploading, receipt) == data
        others = {number: uploading.gate.store.stored[number] for number in (1, 3, 4)}
        assert others == dict.fromkeys((1, 3, 4), 1)

    async def test_an_expired_address_is_signed_again_for_that_part_alone(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 4 * PART)
        expired = store_error(403, "AccessDenied")
        uploading.gate.store.add(Fault("PUT", r"partNumber=2\b", times=2, answer=expired))
        async with uploading.gate.client() as client:
            calls = note_signing(client)
            options = UploadOptions(part_size=PART, state_dir=uploading.state_dir)
            receipt = await Uploader(client, options).upload(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data
        signed = Counter(number for numbers in calls for number in numbers)
        assert signed == {1: 1, 2: 3, 3: 1, 4: 1}
        assert calls.count([2]) >= 2
        assert uploading.gate.store.count("PUT", r"partNumber=[134]\b") == 3

    async def test_addresses_are_judged_by_the_servers_clock(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", 2 * PART)
        async with uploading.gate.client() as client:
            # Whatever this machine's clock says, the server has told its own.
            now = client.clock.now()
            client.clock.set(now + timedelta(days=400))
            options = UploadOptions(part_size=PART, state_dir=uploading.state_dir)
            await Uploader(client, options).upload(tmp_path / "file.bin")
            assert abs(client.clock.now() - now) < timedelta(minutes=2)
        assert uploading.gate.store.count("PUT", PARTS) == 2

    async def test_an_address_too_old_to_be_used_is_not_even_tried(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", 3 * PART)
        async with uploading.gate.client() as client:

            def age() -> None:
                # An hour passes while the first ones wait to be sent.
                if len(calls) == 1:
                    client.clock.set(client.clock.now() + timedelta(hours=1))

            calls = note_signing(client, age)
            options = UploadOptions(parallel=1, part_size=PART, state_dir=uploading.state_dir)
            await Uploader(client, options).upload(tmp_path / "file.bin")
        assert calls[1] == calls[0][:1]
        assert uploading.gate.store.count("PUT", PARTS) == 3

    async def test_a_part_that_was_never_stored_is_sent_when_completion_misses_it(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 3 * PART)
        uploading.gate.store.add(Fault("PUT", r"partNumber=2\b", swallow="0" * 32))
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data
        assert dict(uploading.gate.store.stored) == {1: 1, 2: 1, 3: 1}
        assert receipt.parts_sent == 4

    async def test_bytes_damaged_time_and_again_are_reported_as_such(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", PART)
        uploading.gate.store.add(Fault("PUT", PARTS, times=100, flip=True))
        with pytest.raises(Corrupt) as caught:
            await uploading.run(tmp_path / "file.bin")
        assert caught.value.code == "damaged_on_the_way"

    async def test_a_store_that_always_refuses_ends_the_upload(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        write_file(tmp_path / "file.bin", PART)
        answer = store_error(403, "SignatureDoesNotMatch")
        uploading.gate.store.add(Fault("PUT", PARTS, times=100, answer=answer))
        with pytest.raises(Forbidden) as caught:
            await uploading.run(tmp_path / "file.bin")
        assert caught.value.code == "store_refused"
        assert uploading.gate.store.count("PUT", PARTS) <= 6

    async def test_a_store_that_stays_away_is_given_up_in_the_end(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 2 * PART)
        down = uploading.gate.store.add(
            Fault("PUT", PARTS, times=1000, answer=store_error(503, "ServiceUnavailable"))
        )
        with pytest.raises(Unavailable) as caught:
            await uploading.run(tmp_path / "file.bin", give_up_after=0.5)
        assert caught.value.code == "unreachable"
        down.times = 0
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data

    async def test_a_store_that_takes_nothing_off_the_line_is_noticed(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 20 * MIB)

        async def stall(_: web.Request) -> None:
            await asyncio.sleep(3)

        uploading.gate.store.add(Fault("PUT", PARTS, hook=stall))
        receipt = await uploading.run(
            tmp_path / "file.bin", part_size=20 * MIB, stall_timeout=0.5, parallel=1
        )
        assert await stored_bytes(uploading, receipt) == data
        assert uploading.gate.store.count("PUT", PARTS) == 2

    async def test_an_upload_that_the_store_has_lost_ends_with_the_gateways_word(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 3 * PART)

        async def abort(_: web.Request) -> None:
            assert uploading.uploader is not None
            async with uploading.gate.client() as client:
                await client.abort(uploading.uploader.progress.session_id)

        uploading.gate.store.add(Fault("PUT", r"partNumber=3\b", hook=abort))
        with pytest.raises(Gone):
            await uploading.run(tmp_path / "file.bin")
        # The same command again starts anew.
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data


class TestGatewayFaults:
    @pytest.mark.parametrize("path", ["/uploads$", "/sign$", "/parts$", "/complete"])
    async def test_a_lost_answer_of_the_gateway_changes_nothing(
        self, uploading: Uploading, tmp_path: Path, path: str
    ) -> None:
        data = write_file(tmp_path / "file.bin", 2 * PART)
        planted = uploading.gate.api.add(Fault("POST", path, lose_reply=True))
        known = {session.session_id for session in await uploading.sessions()}
        receipt = await uploading.run(tmp_path / "file.bin")
        assert planted.hits == 1
        assert await stored_bytes(uploading, receipt) == data
        made = {session.session_id for session in await uploading.sessions()} - known
        assert made == {receipt.session_id}

    async def test_a_gateway_away_for_a_while_is_waited_for(
        self, uploading: Uploading, tmp_path: Path
    ) -> None:
        data = write_file(tmp_path / "file.bin", 4 * PART)
        uploading.gate.api.add(Fault("POST", "/parts", times=4, answer=(503, {}, b"")))
        receipt = await uploading.run(tmp_path / "file.bin")
        assert await stored_bytes(uploading, receipt) == data
        assert set(uploading.gate.store.stored.values()) == {1}

    async def test_progress_that_cannot_be_told_is_no_reason_to_stop(
        self, uploading: Uploading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.client.transfer.REPORT_EVERY", 0.0)
        data = write_file(tmp_path / "file.bin", 2 * PART)
        planted = uploading.gate.api.add(
            Fault("POST", "/progress$", times=10**6, answer=(500, {}, b""))
        )
        receipt = await uploading.run(tmp_path / "file.bin")
        assert planted.hits
        assert await stored_bytes(uploading, receipt) == data


async def test_an_upload_goes_on_without_a_journal_where_none_can_be_kept(
    uploading: Uploading, tmp_path: Path
) -> None:
    data = write_file(tmp_path / "file.bin", PART)
    (tmp_path / "state").write_text("a file where the folder should be")
    receipt = await uploading.run(tmp_path / "file.bin")
    assert await stored_bytes(uploading, receipt) == data


async def test_no_journal_is_left_after_an_upload(uploading: Uploading, tmp_path: Path) -> None:
    write_file(tmp_path / "file.bin", PART)
    await uploading.run(tmp_path / "file.bin")
    assert list(uploading.state_dir.rglob("*.jsonl")) == []


@pytest.mark.parametrize("name", ["folder", "missing", "pipe"])
async def test_what_is_no_file_is_refused_before_anything_is_created(
    uploading: Uploading, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest) as caught:
        await uploading.run(tmp_path / name)
    assert caught.value.code == "file_unreadable"
    assert uploading.gate.api.seen == []


async def test_a_name_that_the_gateway_would_not_take_is_cleaned(
    uploading: Uploading, tmp_path: Path
) -> None:
    file = tmp_path / "a\\b\nc👩‍💻.bin"
    write_file(file, 10)
    receipt = await uploading.run(file)
    async with uploading.gate.client() as client:
        assert (await client.get(receipt.session_id)).filename == "a_b_c👩‍💻.bin"


async def test_the_event_stream_follows_an_upload_to_its_end(
    uploading: Uploading, tmp_path: Path
) -> None:
    write_file(tmp_path / "file.bin", 2 * PART)
    followed: list[str] = []

    async def follow(client: GatewayClient, session_id: str) -> None:
        async for event in client.events(session_id):
            followed.append(event.name)
            last = event.data
        assert last["state"] == "completed"

    async with uploading.gate.client() as client:
        following: list[asyncio.Task[None]] = []

        async def begin(_: web.Request) -> None:
            assert uploading.uploader is not None
            session_id = uploading.uploader.progress.session_id
            following.append(asyncio.create_task(follow(client, session_id)))

        uploading.gate.store.add(Fault("PUT", PARTS, hook=begin))
        await uploading.run(tmp_path / "file.bin")
        async with asyncio.timeout(20):
            await following[0]
    assert followed[0] == "status"
    assert followed[-1] == "end"
