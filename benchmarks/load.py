"""A load generator as a process of its own, and a server that does nothing, to find its ceiling.

    python -m benchmarks.load            the generator: a JSON order on standard input
    python -m benchmarks.load ANSWER     the server: answers ANSWER bytes to everything

The generator keeps so many connections busy, each with one request after another, and asks for
nothing but the status, the length and the time of each answer: on these machines several times as
fast as what it measures. It understands answers with a Content-Length, in order, and no others.
"""

import asyncio
import re
import sys
import time
from array import array
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_ANSWER_SECONDS: Final = 30.0


class _Connection(asyncio.Protocol):
    """Sends the requests in turn until the time is over; notes how long each answer took."""

    def __init__(self, load: "_Load", first: int) -> None:
        self._load = load
        self._next = first
        self._buffer = b""
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's is not registered as one.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._buffer, 0, end + 2)
            if length is None or not self._buffer.startswith(b"HTTP/1.1 200 "):
                self._load.fail(self._buffer)
                return
            self._wanted = end + 4 + int(length[1])
        if len(self._buffer) < self._wanted:
            return
        now = time.perf_counter()
        self._load.took.append(now - self._sent)
        self._buffer, self._wanted = b"", 0
        if now < self._load.until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or time.perf_counter() < self._load.until:
            self._load.fail(str(exc or "the server closed the connection").encode())
        self._load.ended()

    def _send(self) -> None:
        requests = self._load.requests
        request = requests[self._next % len(requests)]
        self._next += 1
        self._sent = time.perf_counter()
        self._transport.write(request)


class _Load:
    """One order: `host`, `port`, `requests` (texts), `connections` and `seconds`."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._order = order
        self.requests = [text.encode() for text in order["requests"]]
        self.took = array("d")
        self.until = 0.0
        self._open = int(order["connections"])
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> dict[str, float]:
        """Return `requests` answered, `seconds`, their `median` and `p99`, and `cpu` seconds."""
        order = self._order
        loop = asyncio.get_running_loop()
        start, cpu = time.perf_counter(), time.process_time()
        self.until = start + float(order["seconds"])
        for index in range(self._open):
            # Each begins elsewhere, so that not all ask for the same at the same time.
            await loop.create_connection(
                lambda index=index: _Connection(self, index),  # type: ignore[misc]  # A default binds the value.
                order["host"],
                order["port"],
            )
        await asyncio.wait_for(self._done, float(order["seconds"]) + _ANSWER_SECONDS)
        seconds = time.perf_counter() - start
        ordered = sorted(self.took)
        return {
            "requests": len(ordered),
            "seconds": seconds,
            "median": ordered[len(ordered) // 2],
            "p99": ordered[len(ordered) * 99 // 100],
            "cpu": time.process_time() - cpu,
        }

    def fail(self, answer: bytes) -> None:
        """End it all: a figure with failures in it means nothing."""
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"unexpected: {answer[:500]!r}"))

    def ended(self) -> None:
        """Note that a connection is closed."""
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)


class _Idle(asyncio.Protocol):
    """Answers every request without a body at once."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's is not registered as one.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(self._answer)


async def _serve(size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
    server = await asyncio.get_running_loop().create_server(lambda: _Idle(answer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    print(orjson.dumps({"url": f"http://{host}:{port}"}).decode(), flush=True)
    await server.serve_forever()


async def _generate() -> None:
    order = orjson.loads(sys.stdin.buffer.read())
    print(orjson.dumps(await _Load(order).run()).decode())


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])) if len(sys.argv) > 1 else _generate())
