"""Sidecars: what is written is read back, and what cannot be read harms nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_session

from gateway.core.checksums import Checksum
from gateway.core.model import Part, Problem, State, StoredObject, VerifiedBy
from gateway.core.ports import Sidecar
from gateway.errors import Internal, NoSuchObject, SessionNotFound
from gateway.storage.sidecars import ObjectSidecars

ID = "0123456789abcdef" * 2
KEY = f".gateway/sessions/{ID}"


class Memory:
    """An ObjectStore in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        assert (bucket, content_type) == ("bucket", "application/json")
        self.objects[key] = body

    async def read(self, _: str, key: str) -> AsyncIterator[bytes]:
        if key not in self.objects:
            raise NoSuchObject("x")
        for start in range(0, len(self.objects[key]), 1000):
            yield self.objects[key][start : start + 1000]

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[StoredObject]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield StoredObject(bucket, key, 1, "e")


def made() -> tuple[ObjectSidecars, Memory]:
    memory: Any = Memory()
    return ObjectSidecars(memory, "bucket"), memory


async def test_a_sidecar_lies_under_its_sessions_id_as_json() -> None:
    sidecars, memory = made()
    await sidecars.write(Sidecar(make_session()))
    assert list(memory.objects) == [KEY]
    record = orjson.loads(memory.objects[KEY])
    assert (record["version"], record["parts"]) == (1, None)
    assert record["session"]["session_id"] == ID


@pytest.mark.parametrize("count", [None, 0, 1, 10_000])
async def test_what_is_written_is_read_back(count: int | None) -> None:
    sidecars, _ = made()
    session = make_session(
        state=State.COMPLETED,
        filename="naïve 🎬.mov",
        size=None,
        checksum=Checksum("sha256", "A" * 43 + "="),
        metadata={"a": "é"},
        object=StoredObject("bucket", "key", 10, "e", {"crc32": "AAAAAA=="}, {"gw-session": ID}),
        verified_by=VerifiedBy.CLIENT_FILE,
        error=Problem("code", "message", "hint"),
    )
    parts = (
        None
        if count is None
        else tuple(
            Part(n, 8, f"{n:032x}", "A" * 43 + "=" if n % 2 else None) for n in range(1, count + 1)
        )
    )
    await sidecars.write(Sidecar(session, parts))
    assert await sidecars.read(ID) == Sidecar(session, parts)


async def test_a_later_write_replaces_an_earlier_one() -> None:
    sidecars, _ = made()
    await sidecars.write(Sidecar(make_session(version=1)))
    await sidecars.write(Sidecar(make_session(version=2), ()))
    assert await sidecars.read(ID) == Sidecar(make_session(version=2), ())


@pytest.mark.parametrize("session_id", [ID, "", "../x", "A" * 32, ID + "\n"])
async def test_an_unknown_session_is_not_found(session_id: str) -> None:
    sidecars, _ = made()
    with pytest.raises(SessionNotFound):
        await sidecars.read(session_id)


async def test_ids_are_those_of_sidecars_and_of_nothing_else() -> None:
    sidecars, memory = made()
    await sidecars.write(Sidecar(make_session()))
    memory.objects[".gateway/sessions/note.txt"] = b"x"
    memory.objects[".gateway/sessions/"] = b"x"
    memory.objects[".gateway/probe/" + ID] = b"x"
    assert [found async for found in sidecars.ids()] == [ID]


def good() -> dict[str, Any]:
    sidecars, memory = made()
    asyncio.run(sidecars.write(Sidecar(make_session(), (Part(1, 1, "a"),))))
    record: dict[str, Any] = orjson.loads(memory.objects[KEY])
    return record


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"session": None},
        {"session": {}},
        {"parts": 7},
        {"parts": [[1]]},
        {"parts": [None]},
    ],
)
def test_a_record_that_makes_no_sense_is_unreadable(change: dict[str, Any]) -> None:
    sidecars, memory = made()
    memory.objects[KEY] = orjson.dumps(good() | change)
    with pytest.raises(Internal) as caught:
        asyncio.run(sidecars.read(ID))
    assert caught.value.code == "record_unreadable"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_unreadable(body: bytes) -> None:
    sidecars, memory = made()
    memory.objects[KEY] = body
    with pytest.raises(Internal):
        asyncio.run(sidecars.read(ID))


def test_a_record_of_another_session_is_not_taken_for_this_one() -> None:
    sidecars, memory = made()
    memory.objects[".gateway/sessions/" + "f" * 32] = orjson.dumps(good())
    with pytest.raises(Internal):
        asyncio.run(sidecars.read("f" * 32))


def test_a_huge_object_in_the_place_of_a_record_is_not_read_to_its_end() -> None:
    class Endless(Memory):
        given = 0

        async def read(self, _: str, __: str) -> AsyncIterator[bytes]:
            while True:
                self.given += 1
                yield bytes(1024 * 1024)

    memory: Any = Endless()
    with pytest.raises(Internal):
        asyncio.run(ObjectSidecars(memory, "bucket").read(ID))
    assert memory.given < 20


def test_fields_of_later_versions_are_passed_over() -> None:
    sidecars, memory = made()
    record = good()
    record["new"] = record["session"]["new"] = 1
    memory.objects[KEY] = orjson.dumps(record)
    assert asyncio.run(sidecars.read(ID)) == Sidecar(make_session(), (Part(1, 1, "a"),))
