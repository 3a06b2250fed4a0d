"""A TCP proxy before Redis that can lose the reply to a command Redis has carried out."""

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class CuttingProxy:
    """Forwards; `cut_next` makes it swallow the reply to a command and hang up instead."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._to_cut = b""
        self.cuts = 0

    @property
    def url(self) -> str:
        """The target's URL, by way of this proxy."""
        port = self._server.sockets[0].getsockname()[1]
        credentials = self._target.netloc.rpartition("@")[0]
        return f"redis://{credentials}@127.0.0.1:{port}/0"

    def cut_next(self, word: bytes) -> None:
        """Lose the next reply to a command that has the word in it."""
        self._to_cut = word

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection(
            self._target.hostname, self._target.port
        )
        try:
            # The clients under test send one command, or pipeline, at a time and await its reply.
            while request := await reader.read(1 << 20):
                to_server.write(request)
                reply = await upstream.read(1 << 20)
                if self._to_cut and self._to_cut in request:
                    self._to_cut = b""
                    self.cuts += 1
                    return
                writer.write(reply)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            for end in (writer, to_server):
                end.close()
