"""Progress as server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import ClientResponse, web
from gateways import SESSION_ID, FakeService, Serving, serving
from samples import make_session

from gateway.core.model import ChunkPlan, Progress, State, UploadSession
from gateway.doors.native import NativeDoor, NativeOptions
from gateway.doors.native.events import StreamOptions
from gateway.errors import SessionNotFound, Unavailable

HERE = f"/uploads/{SESSION_ID}/events"
Event = dict[str, Any]


def received(count: int, **changes: Any) -> UploadSession:
    return make_session(
        size=100, progress=Progress(received_bytes=10 * count, received_parts=count), **changes
    )


async def events(answer: ClientResponse) -> AsyncIterator[Event]:
    """Read events as a browser does: fields until an empty line; comments are nothing."""
    event: Event = {}
    async for raw in answer.content:
        name, _, value = raw.decode().rstrip("\r\n").partition(": ")
        if name in {"event", "id", "data"}:
            event[name] = value
        elif name == "" and not value and event:
            yield {**event, "data": orjson.loads(event["data"])}
            event = {}


async def test_a_stream_tells_status_progress_and_end(
    gateway: Serving, service: FakeService
) -> None:
    service.script(
        received(0),
        received(1),
        received(2, version=4, state=State.COMPLETING),
        received(2, version=6, state=State.COMPLETED),
    )
    async with gateway.client.get(HERE) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Request-Id"]
        seen = [event async for event in events(answer)]
    assert [event["event"] for event in seen] == ["status", "progress", "status", "status", "end"]
    assert seen[1]["data"] == {
        "received_bytes": 10,
        "received_parts": 1,
        "in_flight_bytes": 0,
        "fraction": 0.1,
        "phase": "uploading",
    }
    assert seen[0]["data"]["session_id"] == SESSION_ID
    assert seen[-1]["data"]["state"] == "completed"
    assert len({event["id"] for event in seen[:-1]}) == 4
    assert service.watching == 0


async def test_what_a_client_knows_already_is_not_told_again(
    gateway: Serving, service: FakeService
) -> None:
    service.script(received(1))
    async with gateway.client.get(HERE) as answer:
        first = await anext(events(answer))
    service.script(received(1), received(2))
    async with gateway.client.get(HERE, headers={"Last-Event-ID": first["id"]}) as answer:
        again = await anext(events(answer))
    assert (again["event"], again["data"]["received_parts"]) == ("progress", 2)
    service.script(received(3))
    async with gateway.client.get(HERE, headers={"Last-Event-ID": first["id"]}) as answer:
        later = await anext(events(answer))
    assert (later["event"], later["data"]["received_parts"]) == ("status", 3)


async def test_each_step_of_a_file_in_chunks_has_an_id_of_its_own(
    gateway: Serving, service: FakeService
) -> None:
    def in_chunks(count: int, staged: int) -> UploadSession:
        progress = Progress(received_chunks=count, staged_bytes=staged)
        return make_session(size=100, chunks=ChunkPlan(10, 10), progress=progress)

    service.script(in_chunks(1, 10), in_chunks(2, 20), in_chunks(2, 0), received(0, version=9))
    async with gateway.client.get(HERE) as answer:
        stream = events(answer)
        seen = [await anext(stream) for _ in range(3)]
    assert len({event["id"] for event in seen}) == 3


async def test_a_client_that_comes_back_after_the_end_is_told_of_it(
    gateway: Serving, service: FakeService
) -> None:
    service.script(received(1, state=State.COMPLETED))
    async with gateway.client.get(HERE) as answer:
        seen = [event async for event in events(answer)]
    service.script(received(1, state=State.COMPLETED))
    async with gateway.client.get(HERE, headers={"Last-Event-ID": seen[-1]["id"]}) as answer:
        again = [event async for event in events(answer)]
    assert [event["event"] for event in again] == ["end"]


async def test_a_silent_stream_is_kept_alive_by_comments(
    gateway: Serving, service: FakeService
) -> None:
    service.script(received(1))
    async with gateway.client.get(HERE) as answer, asyncio.timeout(3):
        pings = 0
        async for line in answer.content:
            pings += line.startswith(b":")
            if pings == 2:
                break


async def test_errors_before_the_first_event_are_plain_errors(
    gateway: Serving, service: FakeService
) -> None:
    for error, status in ((SessionNotFound(), 404), (Unavailable("Redis is away."), 503)):
        service.script(error)
        async with gateway.client.get(HERE) as answer:
            assert answer.status == status
            assert (await answer.json(content_type="application/problem+json"))["hint"] is not None
    assert service.watching == 0


async def test_a_stream_that_fails_later_just_ends(gateway: Serving, service: FakeService) -> None:
    service.script(received(1), Unavailable("Redis is away."))
    async with gateway.client.get(HERE) as answer:
        seen = [event async for event in events(answer)]
    assert [event["event"] for event in seen] == ["status"]


async def test_only_so_many_streams_are_open_at_once(
    gateway: Serving, service: FakeService
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            service.script(received(1))
            answer = await stack.enter_async_context(gateway.client.get(HERE))
            await anext(events(answer))
        async with gateway.client.get(HERE) as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "5"
            document = await refused.json(content_type="application/problem+json")
            assert document["code"] == "too_many_streams"


async def test_a_listener_that_left_makes_room_though_nothing_changes(
    gateway: Serving, service: FakeService
) -> None:
    service.script(received(1))
    for _ in range(5):
        async with gateway.client.get(HERE) as answer:
            assert answer.status == 200
            await anext(events(answer))
            answer.close()
        async with asyncio.timeout(3):
            while service.watching:  # noqa: ASYNC110 - the ping that notices sets no event.
                await asyncio.sleep(0.01)


async def test_a_stream_ends_when_its_time_is_up(service: FakeService) -> None:
    door = make_door(service, longest=0.2)
    service.script(received(1))
    async with serving([door]) as gateway, gateway.client.get(HERE) as answer:
        async with asyncio.timeout(3):
            seen = [event async for event in events(answer)]
        assert [event["event"] for event in seen] == ["status"]
    assert service.watching == 0


async def test_streams_end_at_once_when_the_server_stops(service: FakeService) -> None:
    service.script(received(1))
    async with serving([make_door(service)]) as gateway, gateway.client.get(HERE) as answer:
        reading = events(answer)
        await anext(reading)
        async with asyncio.timeout(1.5):
            await gateway.runner.cleanup()
            assert [event async for event in reading] == []
    assert service.watching == 0


async def test_head_is_not_for_streams(gateway: Serving) -> None:
    async with gateway.client.head(HERE) as answer:
        assert answer.status == 405


def make_door(service: Any, *, longest: float = 30) -> NativeDoor:
    return NativeDoor(service, NativeOptions("0.0", StreamOptions(longest=longest, ping=0.05)))


async def test_streams_after_the_stop_are_refused(service: FakeService) -> None:
    door = make_door(service)
    app = web.Application()
    async with serving([door], app=app) as gateway:
        door.stop()
        async with gateway.client.get(HERE) as answer:
            assert answer.status == 503
