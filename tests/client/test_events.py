"""Reading server-sent events however they are cut and worded."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.client.events import ServerEvent, read_events


class Stream:
    """Lines as a response gives them."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.splitlines(keepends=True)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        if not self._lines:
            raise StopAsyncIteration
        return self._lines.pop(0)


async def events_of(text: bytes) -> list[ServerEvent]:
    return [event async for event in read_events(Stream(text))]  # type: ignore[arg-type]


async def test_names_ids_and_data_are_told_apart() -> None:
    text = b": ping\n\nid: 1-2\nevent: status\ndata: {\ndata: }\n\nretry: 5\n\ndata:[1]\n\n"
    assert await events_of(text) == [
        ServerEvent("status", {}, "1-2"),
        ServerEvent("message", [1], "1-2"),
    ]


async def test_windows_line_ends_are_as_good() -> None:
    assert await events_of(b"event: end\r\ndata: 1\r\n\r\n") == [ServerEvent("end", 1, None)]


async def test_an_event_cut_off_is_not_an_event() -> None:
    assert await events_of(b"event: end\ndata: 1\n") == []


@given(st.lists(st.sampled_from([b":x", b"event: a", b"id: 1", b"what", b"data", b""])))
async def test_lines_without_data_are_never_events(lines: list[bytes]) -> None:
    without = [line for line in lines if line != b"data"]
    assert await events_of(b"\n".join(without)) == []
