"""Uploads over one client: of files, which are gone on with after any interruption, and of streams.

What happens to a file is in `file_upload`, what to a stream in `stream_upload`; both send their
parts by `transfer` and `sender`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gateway.client.api import GatewayClient
from gateway.client.file_upload import FileUpload
from gateway.client.options import UploadOptions
from gateway.client.progress import Progress
from gateway.client.receipts import UploadReceipt
from gateway.client.source import SourceFile
from gateway.client.stream import StreamReader, StreamSource
from gateway.client.stream_upload import StreamUpload
from gateway.client.transfer import Tally
from gateway.client.workbench import Workbench
from gateway.core.checksums import Checksum


class Uploader:
    """Uploads files and streams over one client, one at a time.

    `progress` and `sent` describe the upload that is under way, or the last one; they may be read
    at any time, on the event loop.
    """

    def __init__(self, client: GatewayClient, options: UploadOptions | None = None) -> None:
        self.progress = Progress()
        self.sent = Tally()
        self._client = client
        self._options = options or UploadOptions()

    async def upload(self, path: Path | str, *, name: str | None = None) -> UploadReceipt:
        """Upload one file, going on where an earlier try was interrupted.

        `name` is what the session calls it, by default the last component of the path. Raises
        InvalidRequest (`file_unreadable`), Conflict (`file_changed`, `upload_running`), Corrupt,
        Gone, Unavailable (`unreachable`: start again later), and the gateway's errors. Cancelled,
        it acknowledges what is stored and leaves the session for the next try.
        """
        source = await asyncio.to_thread(SourceFile.open, Path(path))
        if name is not None:
            source.name = name
        readers = self._begin(source.name, source.size)
        upload = None
        try:
            async with self._bench(readers) as bench:
                upload = await FileUpload.start(bench, source)
                return await upload.run()
        finally:
            source.stop()
            # No thread may be reading when the descriptor is given back.
            await asyncio.to_thread(readers.shutdown, cancel_futures=True)
            source.close()
            if upload is not None:
                await upload.close()

    async def upload_stream(
        self,
        stream: StreamSource,
        *,
        name: str,
        size: int | None = None,
        checksum: Checksum | None = None,
    ) -> UploadReceipt:
        """Upload all that a file-like object or an async iterable of bytes gives, until its end.

        It may be as long as 10,000 parts: 625 GiB, unless `part_size` or `size` (exact, in bytes)
        lead to larger parts. Memory stays flat; (`parallel` + 2) parts lie in a temporary file.
        The stream is left open. A `read` that is no coroutine function runs in a thread.

        A stream cannot be read again: whatever this raises, also when it is cancelled, the session
        is aborted, and nothing is completed. An end of the stream is taken for its end, whyever it
        came: raise from the iterable when the producer has failed, or declare `size` or
        `checksum` (of the whole), which are compared before completion.

        Raises what `upload` raises, but for errors of files; InvalidRequest (`stream_unreadable`),
        Corrupt (`stream_mismatch`: not as declared), TooLarge (`stream_too_large`), StorageFull
        (`disk_full`) and Conflict (`cannot_write`) for the temporary file; and what an async
        iterable raises, as it is.
        """
        reader = StreamReader(stream)
        readers = self._begin(name, size)
        upload = None
        try:
            async with self._bench(readers) as bench:
                upload = StreamUpload(bench, reader, size=size, checksum=checksum)
                return await upload.run(name)
        finally:
            await reader.close()
            await asyncio.to_thread(readers.shutdown, cancel_futures=True)
            if upload is not None:
                upload.close()

    def _begin(self, name: str, size: int | None) -> ThreadPoolExecutor:
        self.progress = Progress(name=name, size=size)
        self.sent = Tally()
        return ThreadPoolExecutor(self._options.parallel + 2, thread_name_prefix="gateway-read")

    def _bench(self, readers: ThreadPoolExecutor) -> AbstractAsyncContextManager[Workbench]:
        return Workbench.open(self._client, readers, self._options, self.progress, self.sent)
