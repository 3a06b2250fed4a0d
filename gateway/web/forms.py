"""Reads multipart/form-data (RFC 7578) as a stream: small fields in any order, and one file.

The file's bytes are handed on in the blocks in which they arrive, a few hundred KiB at most in
memory, and never on disk. Their end is told only when the whole form has been read to its last
boundary and was right: whoever stores the bytes as they come may take the end as the sender's word.

The boundaries are found by `multipart`, whose parser takes bytes in any pieces, returns events, does
no I/O and has a limit for everything it holds. (python-multipart is as quick, but calls back;
aiohttp's reader wants lines, and the connection itself.) Parameters of headers are read here, since
the library skips what it does not understand, and a name that is skipped may be another's.

What fields mean is the caller's business.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from aiohttp import hdrs, web
from multipart import MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from gateway.errors import InvalidRequest, TooLarge, UnsupportedType
from gateway.web.bodies import DEFAULT_LIMIT, KIB, iter_body, parse_object, read_body

MAX_PARTS: Final = 64
"""How many fields and files a form may have."""
MAX_VALUE_BYTES: Final = 4 * KIB
"""Longest value of a field."""
MAX_HEADER_BYTES: Final = 8 * KIB
"""All headers of one part together."""
MAX_STRAY_BYTES: Final = 64 * KIB
"""What may lie behind the last boundary and means nothing (RFC 2046, 5.1.1). A block of the body is
counted only where it holds nothing else. Before the first boundary there is at most a line break:
the texts that mail has there are in no form."""

# RFC 2046, section 5.1.1: 1 to 70 of these, of which the last is no space.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
# A parameter of a header: token or quoted string (RFC 9110, section 5.6). The second way to quote
# is that of browsers, in which a backslash is nothing special.
_PARAMETER: Final = re.compile(
    r"""[ \t]*;[ \t]*(?P<name>[0-9A-Za-z_-]+\*?)[ \t]*=[ \t]*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" (?=[ \t]*(?:;|$))
          | "(?P<plain>[^"]*)" (?=[ \t]*(?:;|$))
          | (?P<token>[^\s;"]+) )""",
    re.VERBOSE,
)
# RFC 5987, section 3.2: charset'language'percent-encoded. RFC 7578 wants it in no form, but old
# versions of well-known libraries send it.
_EXTENDED: Final = re.compile(r"(utf-8|iso-8859-1)'[^']*'([^']*)", re.IGNORECASE)
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1"})
# HTML, section 4.10.21.8: these three and no other.
_ESCAPES: Final = (("%0D", "\r"), ("%0A", "\n"), ("%22", '"'))
# RFC 2045, section 6: those that change nothing.
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})


@dataclass(frozen=True, slots=True)
class FilePart:
    """The head of a file in a form: its field's name, and what the sender calls it, if anything.

    `filename` is as it was sent, and may be a path or worse.
    """

    name: str
    filename: str | None = None
    content_type: str | None = None


class Form:
    """A form whose reading has stopped at its file, or at its end.

    `fields` grow while `blocks` are read, since some may come behind the file. `file` is None where
    the form has ended without one.
    """

    def __init__(self, events: AsyncGenerator["_Event", None], files: Collection[str]) -> None:
        self._events = events
        self._files = files
        self._fields: dict[str, str] = {}
        self.file: FilePart | None = None

    @property
    def fields(self) -> Mapping[str, str]:
        """The values read so far, by name."""
        return self._fields

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes, none where there is no file; ends when the whole form is read.

        To be called once. Raises as `open_form` does, then everything yielded is worthless.
        """
        if self.file is None:
            return
        async for event in self._events:
            if event is None:
                break
            if isinstance(event, bytes):
                yield event
        await self.read_fields()

    async def read_fields(self) -> None:
        """Read fields up to the file or the end; a second file is one too many."""
        name, value = "", bytearray()
        charset = "utf-8"
        async for event in self._events:
            if isinstance(event, bytes):
                value += event
                if len(value) > MAX_VALUE_BYTES:
                    raise _too_large(
                        f"A field of a form takes at most {MAX_VALUE_BYTES} bytes.",
                        "Send what is larger as the file.",
                    )
            elif event is None:
                self._fields[name] = _text(bytes(value), charset)
            else:
                part = event.part
                if part.name in self._fields or (self.file and part.name == self.file.name):
                    raise _invalid("A field comes twice.", "Send each field once.")
                if part.name in self._files:
                    if self.file is not None:
                        raise _invalid("There are two files in the form.", "Send one at a time.")
                    self.file = part
                    return
                name, value, charset = part.name, bytearray(), event.charset


@asynccontextmanager
async def open_form(request: web.Request, *, files: Collection[str]) -> AsyncIterator[Form]:
    """Read the request's form up to its file, which is the field of one of these names.

    Raises InvalidRequest (`invalid_form`, `body_truncated`, `request_timeout`), TooLarge
    `form_too_large`, UnsupportedType (`unsupported_media_type`, `unsupported_encoding`).
    """
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
    async with (
        aclosing(iter_body(request)) as body,
        parse_form(body, content_type, files=files) as form,
    ):
        yield form


async def read_fields(request: web.Request) -> dict[str, str]:
    """Read a form without a file, in any of the encodings that clients have for one.

    multipart/form-data, application/x-www-form-urlencoded or a JSON object of texts. Raises as
    `open_form` does, and InvalidRequest `invalid_body`, TooLarge `body_too_large`.
    """
    if request.content_type == "application/x-www-form-urlencoded":
        body = await read_body(request, limit=DEFAULT_LIMIT)
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARTS
            )
        except ValueError:
            # The error holds the bytes; they must not come along into a log.
            raise _invalid("The form is not well-formed.", "Send UTF-8, and few fields.") from None
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise _invalid("A field comes twice.", "Send each field once.")
        return fields
    if request.content_type == "application/json":
        values = parse_object(await read_body(request, limit=DEFAULT_LIMIT))
        return {name: value for name, value in values.items() if isinstance(value, str)}
    async with open_form(request, files=()) as form:
        return dict(form.fields)


@asynccontextmanager
async def parse_form(
    body: AsyncIterator[bytes], content_type: str, *, files: Collection[str]
) -> AsyncIterator[Form]:
    """Read a form from blocks of bytes, of any sizes but none empty, as `open_form` does."""
    async with aclosing(_parse(body, boundary_of(content_type))) as events:
        form = Form(events, files)
        await form.read_fields()
        yield form


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type of multipart/form-data names; raises as `open_form`."""
    media_type, semicolon, rest = content_type.partition(";")
    if media_type.strip().lower() != "multipart/form-data":
        raise UnsupportedType(
            "The body must be a form.",
            code="unsupported_media_type",
            hint="Send multipart/form-data, as browsers do for forms with files.",
        )
    boundary = _parameters(semicolon + rest).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _invalid(
            "The form's Content-Type names no boundary of 1 to 70 characters.",
            "Leave Content-Type to whatever makes the form: it knows the boundary.",
        )
    return boundary


@dataclass(frozen=True, slots=True)
class _PartStart:
    part: FilePart
    charset: str


# A part begins, goes on, ends.
_Event = _PartStart | bytes | None


async def _parse(body: AsyncIterator[bytes], boundary: str) -> AsyncGenerator[_Event, None]:
    parser = PushMultipartParser(
        boundary,
        # One line may be as long as all of them; together they are measured below.
        max_header_size=MAX_HEADER_BYTES + 64,
        max_header_count=16,
        max_segment_count=MAX_PARTS,
    )
    openings = (f"--{boundary}".encode(), f"\r\n--{boundary}".encode())
    opening = b""
    stray = 0
    try:
        async for block in body:
            if len(opening) < len(openings[1]):
                opening += block[: len(openings[1])]
                # The parser itself would look for the boundary in all that comes.
                if not any(o.startswith(opening[: len(o)]) for o in openings):
                    raise _invalid(
                        "The form does not begin with its boundary.",
                        "Send the boundary that Content-Type names, after two hyphens.",
                    )
            stray += len(block)
            for event in parser.parse(block):
                stray = 0
                yield _start(event) if isinstance(event, MultipartSegment) else event
            if stray > MAX_STRAY_BYTES:
                raise _too_large(
                    f"More than {MAX_STRAY_BYTES} bytes of the form belong to no field.",
                    "Send nothing behind the last boundary.",
                )
    except ParserLimitReached as error:
        raise _too_large(
            f"A form has at most {MAX_PARTS} fields, each with {MAX_HEADER_BYTES} bytes of headers.",
            "Send only the fields that the call takes.",
        ) from error
    except ParserError as error:
        _refuse(error)
    try:
        # No more bytes: it looks whether it has seen the last boundary.
        list(parser.parse(b""))
    except ParserError as error:
        raise InvalidRequest(
            "The form breaks off before its last boundary.",
            code="body_truncated",
            hint="Send the whole form, and a Content-Length that fits it.",
            retryable=True,
        ) from error


def _start(segment: MultipartSegment) -> _PartStart:
    headers: dict[str, str] = {}
    for name, value in segment.headerlist:
        if name in headers:
            raise _invalid("A header of a field comes twice.", "Send each header once.")
        if any(char < " " and char != "\t" for char in value):
            raise _invalid("A header of a field holds control characters.", "Remove them.")
        headers[name] = value
    if sum(len(name) + len(value.encode()) + 4 for name, value in headers.items()) > (
        MAX_HEADER_BYTES
    ):
        raise _too_large(
            f"The headers of a field take at most {MAX_HEADER_BYTES} bytes.", "Shorten the name."
        )
    if headers.get("Content-Transfer-Encoding", "").strip().lower() not in _PLAIN_ENCODINGS:
        raise UnsupportedType(
            "Encoded fields are not taken.",
            code="unsupported_encoding",
            hint="Send bytes as they are, without a Content-Transfer-Encoding (RFC 7578, 4.7).",
        )
    disposition = headers["Content-Disposition"]
    parameters = _parameters(disposition[len(disposition.partition(";")[0]) :], escapes=True)
    name = parameters.get("name", "")
    if not name:
        raise _invalid(
            "A field of the form has no name.", 'Send Content-Disposition: form-data; name="..."'
        )
    content_type = headers.get("Content-Type")
    charset = "utf-8"
    if content_type is not None:
        _, semicolon, rest = content_type.partition(";")
        # Only texts have one; what a file says of itself is not read here.
        charset = _parameters(semicolon + rest, strict=False).get("charset", charset).lower()
    return _PartStart(FilePart(name, parameters.get("filename"), content_type), charset)


def _parameters(text: str, *, escapes: bool = False, strict: bool = True) -> dict[str, str]:
    """Read `; name=value; ...`; with `escapes` as in Content-Disposition of a form.

    Without `strict` it ends silently where it is not understood.
    """
    found: dict[str, str] = {}
    position = 0
    while match := _PARAMETER.match(text, position):
        position = match.end()
        name = match["name"].lower()
        if name in found:
            raise _invalid("A parameter of a header comes twice.", "Send each parameter once.")
        if match["token"] is not None:
            found[name] = match["token"]
        elif not escapes:
            quoted = match["quoted"]
            found[name] = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        else:
            found[name] = _unescape(match["plain"] if match["quoted"] is None else match["quoted"])
    if strict and text[position:].strip(" \t;"):
        raise _invalid(
            "A header's parameters are not well-formed.",
            'Write them as name="value", separated by semicolons.',
        )
    for name in ("name*", "filename*"):
        if escapes and name in found:
            found[name.removesuffix("*")] = _extended(found[name])
    return found


def _unescape(text: str) -> str:
    # Older clients put a backslash before a quotation mark; browsers escape three characters in
    # percent, and leave backslashes alone.
    if '\\"' in text:
        return text.replace("\\\\", "\\").replace('\\"', '"')
    for escape, char in _ESCAPES:
        text = text.replace(escape, char)
    return text


def _extended(text: str) -> str:
    match = _EXTENDED.fullmatch(text)
    if match is None:
        raise _invalid("A header's parameter is not encoded as in RFC 5987.", "Send plain UTF-8.")
    return _text(unquote_to_bytes(match[2]), match[1].lower())


def _text(value: bytes, charset: str) -> str:
    if charset not in _CHARSETS:
        raise _invalid("A field of the form is in an unknown charset.", "Send UTF-8.")
    try:
        return value.decode(charset)
    except UnicodeDecodeError:
        # The error holds the bytes; they must not come along into a log.
        raise _invalid(f"A field of the form is not {charset.upper()}.", "Send UTF-8.") from None


def _refuse(error: ParserError) -> NoReturn:
    # The parser names what it met, and not the bytes.
    raise _invalid(
        f"The form is not well-formed: {error}.",
        "Let a library make the form (RFC 7578); lines end in CRLF.",
    ) from None


def _invalid(message: str, hint: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_form", hint=hint)


def _too_large(message: str, hint: str) -> TooLarge:
    return TooLarge(message, code="form_too_large", hint=hint)
