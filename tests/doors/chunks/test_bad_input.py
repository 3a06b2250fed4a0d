"""Whatever else is sent in one of the four forms: refused in its own words, nothing half-counted.

Each test ends with the file sent as it should be, and compared: nothing was lost.
"""

import gzip
import uuid
from collections.abc import AsyncIterator

import minio
import pytest
import pytest_asyncio
from doors.chunks.forms import (
    BOUNDARY,
    END,
    FORM,
    LargeSenderD,
    Sender,
    SenderA,
    SenderB,
    SenderC,
    SenderD,
    field,
    form,
)
from older import Older, older_door
from servers import S3Target, new_bucket
from stack import running_stack

POSTS = [SenderA, SenderB]
FORMS = [*POSTS, SenderC, SenderD, LargeSenderD]


@pytest_asyncio.fixture(scope="module")
async def older(s3: S3Target, oracle: minio.Minio, redis_url: str) -> AsyncIterator[Older]:
    async with (
        new_bucket(oracle) as bucket,
        running_stack(s3, bucket, oracle, redis_url, f"test-{uuid.uuid4().hex}:") as stack,
        older_door(stack) as running,
    ):
        yield running


@pytest_asyncio.fixture(params=FORMS, ids=lambda form: form.__name__)
async def sender(request: pytest.FixtureRequest, older: Older) -> Sender:
    sender: Sender = request.param(older)
    await sender.begin()
    return sender


@pytest.fixture(params=POSTS, ids=lambda form: form.__name__)
def poster(request: pytest.FixtureRequest, older: Older) -> SenderA:
    poster: SenderA = request.param(older)
    return poster


async def test_chunks_out_of_range_of_another_size_empty_and_twice(sender: Sender) -> None:
    assert (await sender.send(1))[0] == 200
    assert await sender.received() == 1
    # Outside of what the file has.
    for index in (3, 99_999):
        sender.assert_refused(await sender.send(index, sender.chunks[0]), 400)
    # Of another size, and none at all.
    for index, chunk in (
        (0, sender.chunks[0][:-1]),
        (0, sender.chunks[0] + b"x"),
        (0, b""),
        (2, sender.chunks[0] + b"x"),
        (2, b""),
    ):
        sender.assert_refused(await sender.send(index, chunk), 400)
    assert await sender.received() == 1
    # The same again counts once, other bytes do not take its place.
    assert (await sender.send(1))[0] == 200
    assert await sender.received() == 1
    sender.assert_refused(await sender.send(1, bytes(sender.size)), 409)
    assert await sender.received() == 1
    await sender.assert_completes()
    # After completion the same is true.
    if isinstance(sender, SenderA | SenderD) and not isinstance(sender, LargeSenderD):
        status, _ = await sender.send(1)
        assert status == 200
    sender.assert_refused(await sender.send(1, bytes(sender.size)), 409)
    await sender.older.assert_verified(sender.data)


async def test_lengths_that_lie_encodings_and_clients_that_stop(sender: Sender) -> None:
    assert (await sender.send(0))[0] == 200
    _, _, _, body = sender.request(1, sender.chunks[1])
    # More promised than sent, or stopped halfway; nobody may be there to hear the answer.
    for stop in (1, 40, len(body) // 2, len(body) - 1):
        answer = await sender.raw(1, stop=stop)
        if answer is not None:
            sender.assert_refused(answer, 400)
        assert await sender.received() == 1
    # Less promised than sent: the rest is no request. Where it has come at the same time, that is
    # all that the server sees, and no door is known to say it.
    answer = await sender.raw(1, Content_Length=str(len(body) - 50))
    assert answer is not None
    if answer[1].get("code") != "malformed_request":
        sender.assert_refused(answer, 400)
    assert answer[0] == 400
    assert await sender.received() == 1
    for headers in ({"Content_Encoding": "gzip"}, {"Content_Encoding": "deflate, gzip"}):
        sender.assert_refused(await sender.raw(1, **headers), 415)
    method, path, right, _ = sender.request(1, b"")
    packed = {**right, "Content-Encoding": "gzip"}
    answer = await sender.older.call(method, path, data=gzip.compress(body), headers=packed)
    # Parts have a length, which is looked at first.
    sender.assert_refused(answer, 400 if sender.size == SenderC.size else 415)
    assert await sender.received() == 1
    await sender.assert_completes()


async def test_missing_and_senseless_fields(poster: SenderA) -> None:
    fields = poster.fields(1)
    file_id, _, _, filename = fields
    for name in fields:
        rest = {key: value for key, value in fields.items() if key != name}
        text = await refused(poster, form(rest, poster.chunks[1]), 400)
        assert text == f"Missing required parameter: {name}"
    no_file = b"".join(field(name, value.encode()) for name, value in fields.items()) + END
    assert await refused(poster, no_file, 400) == "Missing required parameter: chunk"
    for change in (
        {"chunk_index": "3"},
        {"chunk_index": "-1"},
        {"chunk_index": "one"},
        {"total_chunks": "1"},
        {"total_chunks": "0"},
        {"total_chunks": "1000001"},
        {"total_chunks": ""},
        {file_id: "x" * 256},
        {filename: "../../etc/passwd"},
    ):
        await refused(poster, form({**fields, **change}, poster.chunks[1]), 400)
    assert await poster.received() == 0
    await poster.assert_completes()


async def test_another_file_under_the_same_id(poster: SenderA) -> None:
    assert (await poster.send(0))[0] == 200
    fields = poster.fields(1)
    _, _, _, filename = fields
    for change in ({"total_chunks": "4"}, {"total_chunks": "2"}, {filename: "another.bin"}):
        await refused(poster, form({**fields, **change}, poster.chunks[1]), 409)
    # Nor two files, or one field twice, in one form.
    parts = b"".join(field(name, value.encode()) for name, value in fields.items())
    file = field("chunk", poster.chunks[1], filename="blob")
    for body in (parts + file + file + END, parts + parts + file + END):
        await refused(poster, body, 400)
    assert await poster.received() == 1
    await poster.assert_completes()


async def test_forms_that_are_none(poster: SenderA) -> None:
    whole = form(poster.fields(1), poster.chunks[1])
    many = b"".join(field(f"f{number}", b"v") for number in range(1000))
    head = {"Content-Type": "multipart/form-data"}
    for content_type in ({}, {"boundary": ""}, {"boundary": "b" * 10_240}, {"boundary": "b" * 71}):
        header = "".join(f"; {name}={value}" for name, value in content_type.items())
        await refused(poster, whole, 400, {"Content-Type": head["Content-Type"] + header})
    await refused(poster, whole, 400, {"Content-Type": "multipart/form-data; boundary=other"})
    await refused(poster, whole, 415, {"Content-Type": "application/x-www-form-urlencoded"})
    await refused(poster, whole, 415, {"Content-Type": "application/octet-stream"})
    await refused(poster, many + whole, 413)
    await refused(poster, field("note", b"v" * 4097) + whole, 413)
    # The file is in time, but the last boundary never comes.
    cut_off = whole.removesuffix(END)
    assert "breaks off" in await refused(poster, cut_off, 400)
    assert "breaks off" in await refused(poster, cut_off + f"--{BOUNDARY}\r\n".encode(), 400)
    # Behind the file comes what makes the form wrong.
    await refused(poster, cut_off + field("chunk_index", b"2") + END, 400)
    await refused(poster, cut_off + many + END, 413)
    assert await poster.received() == 0
    await poster.assert_completes()


async def test_the_last_line_break_may_be_missing_and_the_file_may_come_first(
    poster: SenderA,
) -> None:
    for index in range(3):
        fields = poster.fields(index)
        file = field("chunk", poster.chunks[index], filename="blob")
        last = b"".join(field(name, value.encode()) for name, value in fields.items())
        status, _ = await poster.older.call(
            "POST", poster.path, data=file + last + END.rstrip(), headers=FORM
        )
        assert status == 200
    assert (await poster.complete())[0] == 200
    await poster.older.assert_verified(poster.data)


async def refused(
    poster: SenderA, body: bytes, status: int, headers: dict[str, str] | None = None
) -> str:
    answer = await poster.older.call("POST", poster.path, data=body, headers=headers or FORM)
    return poster.assert_refused(answer, status)
