"""A chunk that is posted as a form: its fields read, its bytes handed on while they arrive.

Where the file comes before the fields that say what it is, it is staged on its own first; nothing
is ever whole in memory, and nothing counts before the form's last boundary has been seen.
"""

import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.core.access import Principal
from gateway.core.model import ChunkedFile, UploadSession
from gateway.core.service import UploadService
from gateway.doors.chunks.wording import invalid_parameter, missing_parameter
from gateway.web.forms import open_form

# More digits than any number of chunks has, and too few to be slow.
_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_INDEX: Final = "chunk_index"
_TOTAL: Final = "total_chunks"


@dataclass(frozen=True, slots=True)
class PostForm:
    """The names that one of the older APIs has for the same things; `files` are the file's."""

    form: str
    file_id: str
    filename: str
    files: tuple[str, ...]
    completes_itself: bool

    @property
    def required(self) -> tuple[str, ...]:
        """The fields beside the file, in the order in which what is missing is told."""
        return (self.file_id, _INDEX, _TOTAL, self.filename)

    def has_all(self, fields: Mapping[str, str]) -> bool:
        """Tell whether it is known what the file is."""
        return all(fields.get(name) for name in self.required)

    def read(self, fields: Mapping[str, str]) -> tuple[ChunkedFile, int]:
        """Return the file that a chunk belongs to, and the chunk's index.

        Raises InvalidRequest (`missing_parameter`, `invalid_parameter`, and what ChunkedFile says).
        """
        for name in self.required:
            if not fields.get(name):
                raise missing_parameter(name)
        file = ChunkedFile(
            form=self.form,
            file_id=fields[self.file_id],
            total_chunks=_whole(fields, _TOTAL),
            filename=fields[self.filename],
            completes_itself=self.completes_itself,
        )
        index = _whole(fields, _INDEX)
        file.check_index(index)
        return file, index


async def receive_chunk(
    request: web.Request,
    service: UploadService,
    principal: Principal,
    names: PostForm,
    *,
    wait: float,
) -> tuple[ChunkedFile, UploadSession]:
    """Take the chunk in the request's form; return its file, and the session that it is now in.

    Raises what `open_form`, `PostForm.read` and the verb raise.
    """
    async with open_form(request, files=names.files) as form, aclosing(form.blocks()) as blocks:
        if form.file is None:
            names.read(form.fields)
            raise missing_parameter(names.files[0])
        if names.has_all(form.fields):
            file, index = names.read(form.fields)
            session, _ = await service.put_chunk(principal, file, index, blocks, wait=wait)
            return file, session
        loose = await service.stage(blocks)
        try:
            file, index = names.read(form.fields)
            session, _ = await service.put_chunk(
                principal, file, index, loose, size=loose.size, wait=wait
            )
        finally:
            await loose.discard()
        return file, session


def _whole(fields: Mapping[str, str], name: str) -> int:
    if not _WHOLE.fullmatch(fields[name]):
        raise invalid_parameter(name, "a whole number")
    return int(fields[name])
