"""`gateway events` without a process: what it prints, follows, and sends again.

`tests/faults/rows/test_webhooks.py` runs it as a command.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import orjson
import pytest
import pytest_asyncio
import typer.testing
from conformance.outbox import new_event

from gateway.app import webhook_endpoints
from gateway.cli import events as command
from gateway.cli.exits import Exit
from gateway.cli.main import build
from gateway.config import Settings
from gateway.core.clock import SystemClock
from gateway.core.events import Event
from gateway.core.outbox import EventStream, Letter, StreamEntry
from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.state.redis.client import Client, connect
from gateway.state.redis.events import RedisEventStream, RedisLetters

HOOK = "https://hooks.example/T0KEN?key=s3cret"


@pytest_asyncio.fixture(scope="module")
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.close()


@pytest.fixture
def prefix(redis_prefix: str) -> str:
    return redis_prefix.rstrip(":")[:32]


@pytest.fixture
def stream(client: Client, prefix: str) -> RedisEventStream:
    return RedisEventStream(client, prefix=prefix)


@pytest.fixture
def letters(client: Client, prefix: str) -> RedisLetters:
    return RedisLetters(client, prefix=prefix)


def settings(redis_url: str, prefix: str, *hooks: str) -> Settings:
    return Settings(
        s3_bucket="bucket",
        redis_url=redis_url,
        redis_prefix=prefix,
        webhook_url=hooks,
        webhook_secret="a secret of the tests",
    )


@pytest.fixture
def given(redis_url: str, prefix: str) -> Settings:
    return settings(redis_url, prefix, HOOK)


def document(event: Event, **changes: Any) -> bytes:
    return orjson.dumps(
        {
            "id": event.event_id,
            "type": event.type.value,
            "time": "2026-11-21T10:00:00.000Z",
            "session_id": event.session_id,
            "filename": "film.mkv",
            "size": 1536,
            "error": None,
        }
        | changes
    )


async def dead(letters: RedisLetters, endpoint: str) -> Event:
    """Have an event given up by an endpoint."""
    event, now = new_event(), SystemClock().now()
    await letters.add(endpoint, event, now)
    letter = Letter(event, now, attempts=9, reason="status_500", at=now)
    await letters.bury(endpoint, letter, forget_before=now - timedelta(days=1))
    return event


async def test_what_is_kept_is_shown_a_line_an_event(
    given: Settings, stream: RedisEventStream, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = new_event(), new_event()
    await stream.append(first, document(first))
    await stream.append(second, document(second, size=None, error={"code": "upload_lost"}))
    assert await command._show(given, None, follow=False, json=False) is Exit.DONE
    one, two = capsys.readouterr().out.splitlines()
    position = one.split("  ")[-1]
    assert one.split("  ")[:5] == [
        "2026-11-21T10:00:00.000Z",
        "upload.aborted",
        first.session_id,
        "film.mkv",
        "1.5 KiB",
    ]
    assert two.split("  ")[3:5] == ["film.mkv", "upload_lost"]

    await command._show(given, position, follow=False, json=True)
    (line,) = capsys.readouterr().out.splitlines()
    shown = orjson.loads(line)
    assert shown["id"] == second.event_id
    assert shown["position"] == two.split("  ")[-1]


async def test_following_begins_with_what_is_new_and_goes_on(
    given: Settings, stream: RedisEventStream, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = new_event(), new_event()
    await stream.append(old, document(old))
    following = asyncio.create_task(command._show(given, None, follow=True, json=True))
    out = ""
    async with asyncio.timeout(10):
        while new.event_id not in out:
            await stream.append(new, document(new))
            await asyncio.sleep(0.02)
            out += capsys.readouterr().out
    following.cancel()
    await asyncio.wait([following])
    assert old.event_id not in out


async def test_following_outlives_a_moment_without_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_AGAIN", 0.001)
    away = Unavailable("Redis does not answer.")

    class Shaky(EventStream):
        answers: ClassVar[list[Any]] = [away, away, [StreamEntry("1-0", b"{}")]]

        async def append(self, *_: Any) -> None: ...

        async def newest(self) -> str:
            return "0-0"

        async def read(self, *_: Any, **__: Any) -> Sequence[StreamEntry]:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    assert [entry.position for entry in await command._next(Shaky(), "0")] == ["1-0"]
    assert "Waiting for it" in capsys.readouterr().err
    Shaky.answers = [Unavailable("Redis refuses.", code="redis_denied", retryable=False)]
    with pytest.raises(Unavailable):
        await command._next(Shaky(), "0")


async def test_what_was_given_up_is_listed_without_what_is_secret(
    given: Settings, letters: RedisLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command._list_dead(given, json=False) is Exit.DONE
    assert capsys.readouterr().out == ""
    (endpoint,) = webhook_endpoints(given)
    event = await dead(letters, endpoint.endpoint_id)
    await command._list_dead(given, json=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("  ")[1:] == [
        "upload.aborted",
        event.event_id,
        "https://hooks.example",
        "9 attempts",
        "status_500",
    ]
    await command._list_dead(given, json=True)
    shown = orjson.loads(capsys.readouterr().out)
    assert (shown["id"], shown["attempts"]) == (event.event_id, 9)
    assert "T0KEN" not in line + str(shown)


async def test_one_of_them_is_sent_again_or_all(
    given: Settings, letters: RedisLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = webhook_endpoints(given)[0].endpoint_id
    events = [await dead(letters, endpoint) for _ in range(250)]
    assert await command._replay(given, events[7].event_id) is Exit.DONE
    assert capsys.readouterr().err == "1 given up is sent again.\n"
    (letter,) = await letters.claim(endpoint, SystemClock().now(), seconds=60, limit=999)
    assert letter.event == events[7]
    with pytest.raises(NotFound) as caught:
        await command._replay(given, events[7].event_id)
    assert caught.value.code == "no_such_event"
    await command._replay(given, None)
    assert capsys.readouterr().err == "249 given up are sent again.\n"
    assert (await letters.backlog(endpoint)).dead == 0


async def test_what_waits_for_a_webhook_that_is_gone_goes_to_those_that_are_there(
    given: Settings,
    redis_url: str,
    prefix: str,
    letters: RedisLetters,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = webhook_endpoints(given)[0]
    await letters.register({gone.endpoint_id: gone.name})
    waiting = new_event()
    await letters.add(gone.endpoint_id, waiting, SystemClock().now())
    given_up = await dead(letters, gone.endpoint_id)
    with pytest.raises(InvalidRequest) as caught:
        await command._replay(settings(redis_url, prefix), None)
    assert caught.value.code == "no_webhooks"

    now = settings(redis_url, prefix, "https://one.example/", "https://two.example/")
    await command._list_dead(now, json=True)
    listed = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["id"] for one in listed} == {waiting.event_id, given_up.event_id}
    await command._replay(now, None)
    for endpoint in webhook_endpoints(now):
        found = await letters.waiting(endpoint.endpoint_id, start=0, limit=9)
        assert {one.event for one in found} == {waiting, given_up}
    backlog = await letters.backlog(gone.endpoint_id)
    assert (backlog.waiting, backlog.dead) == (0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay"],
        ["--replay", "one", "--all"],
        ["--all"],
        ["one"],
        ["--dead", "--follow"],
        ["--dead", "--since", "0"],
        ["--replay", "--all", "--dead"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GW_S3_BUCKET", "bucket")
    ended = typer.testing.CliRunner().invoke(build("events"), ["events", *arguments])
    assert ended.exit_code == 2, ended.output
