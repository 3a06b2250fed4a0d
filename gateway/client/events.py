"""Server-sent events, read from a response as they come.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from gateway.client.model import unexpected_answer

MAX_EVENT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name, its data as JSON, and the id to go on from."""

    name: str
    data: Any
    event_id: str | None


async def read_events(stream: aiohttp.StreamReader) -> AsyncIterator[ServerEvent]:
    """Yield the events of the stream until it ends; comments, such as pings, are passed over.

    Raises Internal (`unexpected_answer`) for data that is no JSON, or of more than 1 MiB.
    """
    name, event_id = "message", None
    data: list[bytes] = []
    size = 0
    async for raw in stream:
        line = raw.rstrip(b"\r\n")
        if not line:
            if data:
                yield ServerEvent(name, _json(b"\n".join(data)), event_id)
            name, data, size = "message", [], 0
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            event_id = value.decode("utf-8", "replace")
        elif field == b"data":
            size += len(value)
            if size > MAX_EVENT_BYTES:
                raise unexpected_answer("an event of absurd size")
            data.append(value)


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise unexpected_answer("an event that is no JSON") from error
