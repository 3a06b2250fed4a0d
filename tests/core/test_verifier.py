import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_session

from gateway.core.checksums import ALGORITHMS, Checksum
from gateway.core.model import Part, StorageLimits, StoredObject, UploadSession, VerifiedBy
from gateway.core.verifier import STAMP, Verdict, verify

DATA = b"one two three four five six seven"


@dataclass
class Objects:
    """An object store with one object, that counts how much of it is read back."""

    data: bytes
    block: int = 7
    read_bytes: int = 0

    async def read(self, *place: str, if_match: str) -> AsyncIterator[bytes]:
        assert (place, if_match) == (("bucket", "key"), "etag")
        for start in range(0, len(self.data), self.block):
            block = self.data[start : start + self.block]
            self.read_bytes += len(block)
            yield block


def parts_of(
    data: bytes, size: int, algorithm: str = "crc64nvme", *, words: bool = True
) -> list[Part]:
    pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    return [
        Part(
            number,
            len(piece),
            hashlib.md5(piece, usedforsecurity=False).hexdigest(),
            ALGORITHMS[algorithm].value_of(piece) if words else None,
        )
        for number, piece in enumerate(pieces, 1)
    ]


def stored_as(
    data: bytes, session: UploadSession, reports: Sequence[str] = ("crc64nvme",)
) -> StoredObject:
    return StoredObject(
        "bucket",
        "key",
        len(data),
        "etag",
        {name: ALGORITHMS[name].value_of(data) for name in reports},
        {STAMP: session.session_id},
    )


async def check(
    session: UploadSession,
    parts: list[Part],
    stored: StoredObject,
    objects: Objects | None = None,
    limits: StorageLimits | None = None,
) -> Verdict:
    async def on_progress(verified_bytes: int) -> None:
        assert 0 < verified_bytes <= stored.size

    return await verify(
        session,
        parts,
        stored,
        objects=objects or Objects(b""),  # type: ignore[arg-type]
        limits=limits or StorageLimits(),
        on_progress=on_progress,
    )


async def test_part_checksums_are_combined_and_nothing_is_read() -> None:
    session = make_session(size=len(DATA), part_size=10)
    objects = Objects(DATA)
    verdict = await check(session, parts_of(DATA, 10), stored_as(DATA, session), objects)
    assert verdict.problem is None
    assert verdict.verified_by is VerifiedBy.CLIENT_PARTS
    assert objects.read_bytes == 0


async def test_wrong_bytes_under_the_store_s_own_checksum_are_found() -> None:
    session = make_session(size=len(DATA), part_size=10)
    wrong = DATA[:-1] + b"?"
    verdict = await check(session, parts_of(DATA, 10), stored_as(wrong, session))
    assert verdict.problem is not None
    assert verdict.problem.code == "checksum_mismatch"
    assert verdict.verified_by is None


async def test_without_a_word_of_the_client_s_the_store_is_believed_and_named() -> None:
    session = make_session(size=len(DATA), part_size=10)
    parts = parts_of(DATA, 10, words=False)
    verdict = await check(session, parts, stored_as(DATA, session))
    assert verdict.verified_by is VerifiedBy.STORE


async def test_one_part_without_a_word_leaves_only_the_store_s() -> None:
    session = make_session(size=len(DATA), part_size=10)
    first, *rest = parts_of(DATA, 10)
    verdict = await check(session, [replace(first, checksum=None), *rest], stored_as(DATA, session))
    assert verdict.verified_by is VerifiedBy.STORE


@pytest.mark.parametrize("algorithm", ["sha256", "crc32"])
async def test_a_declared_checksum_that_is_not_reported_means_reading_back(algorithm: str) -> None:
    declared = Checksum(algorithm, ALGORITHMS[algorithm].value_of(DATA))
    session = make_session(size=len(DATA), part_size=10, checksum=declared)
    objects = Objects(DATA)
    verdict = await check(session, parts_of(DATA, 10), stored_as(DATA, session), objects)
    assert verdict.verified_by is VerifiedBy.CLIENT_FILE
    assert verdict.checksums[algorithm] == declared.value
    assert objects.read_bytes == len(DATA)


async def test_a_declared_checksum_that_is_reported_needs_no_reading() -> None:
    declared = Checksum("crc64nvme", ALGORITHMS["crc64nvme"].value_of(DATA))
    session = make_session(size=len(DATA), part_size=10, checksum=declared)
    objects = Objects(DATA)
    parts = parts_of(DATA, 10, words=False)
    verdict = await check(session, parts, stored_as(DATA, session), objects)
    assert verdict.verified_by is VerifiedBy.CLIENT_FILE
    assert objects.read_bytes == 0


async def test_a_declared_sha256_of_another_file_is_corrupt() -> None:
    declared = Checksum("sha256", ALGORITHMS["sha256"].value_of(DATA + b"!"))
    session = make_session(size=len(DATA), part_size=10, checksum=declared)
    verdict = await check(session, parts_of(DATA, 10), stored_as(DATA, session), Objects(DATA))
    assert verdict.problem is not None


async def test_parts_and_file_that_contradict_each_other_are_corrupt() -> None:
    declared = Checksum("crc64nvme", ALGORITHMS["crc64nvme"].value_of(b"another file"))
    session = make_session(size=len(DATA), part_size=10, checksum=declared)
    verdict = await check(session, parts_of(DATA, 10), stored_as(DATA, session))
    assert verdict.problem is not None
    assert "contradict" in verdict.problem.message


async def test_a_store_that_reports_nothing_is_read_back() -> None:
    session = make_session(size=len(DATA), part_size=10)
    objects = Objects(DATA)
    verdict = await check(session, parts_of(DATA, 10), stored_as(DATA, session, ()), objects)
    assert verdict.verified_by is VerifiedBy.CLIENT_PARTS
    assert objects.read_bytes == len(DATA)


@given(st.binary(max_size=200), st.integers(1, 60), st.integers(1, 60), st.data())
async def test_digests_of_parts_are_compared_part_by_part(
    data: bytes, part_size: int, block: int, draw: st.DataObject
) -> None:
    session = make_session(size=len(data), part_size=part_size, checksum_algorithm="sha256")
    parts = parts_of(data, part_size, "sha256")
    stored = stored_as(data, session, ())
    verdict = await check(session, parts, stored, Objects(data, block))
    assert verdict.problem is None
    assert verdict.verified_by is VerifiedBy.CLIENT_PARTS
    if data:
        index = draw.draw(st.integers(0, len(data) - 1))
        wrong = bytearray(data)
        wrong[index] ^= 1
        verdict = await check(session, parts, stored, Objects(bytes(wrong), block))
        assert verdict.problem is not None
        assert f"Part {index // part_size + 1} " in verdict.problem.message


async def test_an_object_of_another_size_is_corrupt() -> None:
    session = make_session(size=len(DATA) + 1, part_size=10)
    verdict = await check(session, [], stored_as(DATA, session))
    assert verdict.problem is not None
    assert verdict.problem.code == "size_mismatch"


async def test_an_object_without_the_stamp_is_not_ours() -> None:
    session = make_session(size=len(DATA), part_size=10)
    foreign = replace(stored_as(DATA, session), metadata={STAMP: "f" * 32})
    verdict = await check(session, parts_of(DATA, 10), foreign)
    assert verdict.problem is not None
    assert verdict.problem.code == "object_replaced"


async def test_an_object_that_changed_since_complete_is_not_ours() -> None:
    session = make_session(size=len(DATA), part_size=10)
    stored = stored_as(DATA, session)
    session = replace(session, object=replace(stored, etag="before"))
    verdict = await check(session, parts_of(DATA, 10), stored)
    assert verdict.problem is not None
    assert verdict.problem.code == "object_replaced"


async def test_an_etag_of_other_parts_is_found_where_etags_are_md5s() -> None:
    session = make_session(size=len(DATA), part_size=10)
    parts = parts_of(DATA, 10)
    digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    right = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
    limits = StorageLimits(object_etag_is_md5_of_md5s=True)
    stored = replace(stored_as(DATA, session), etag=right)
    assert (await check(session, parts, stored, limits=limits)).problem is None
    wrong = replace(stored, etag="0" * 32 + f"-{len(parts)}")
    verdict = await check(session, parts, wrong, limits=limits)
    assert verdict.problem is not None
    assert verdict.problem.code == "etag_mismatch"


async def test_an_object_that_ends_early_when_read_is_corrupt() -> None:
    session = make_session(size=len(DATA), part_size=10)
    verdict = await check(
        session, parts_of(DATA, 10), stored_as(DATA, session, ()), Objects(DATA[:-1])
    )
    assert verdict.problem is not None
    assert "ends early" in verdict.problem.message


async def test_an_empty_file_is_verified_by_its_one_empty_part() -> None:
    session = make_session(size=0, part_size=10)
    verdict = await check(session, parts_of(b"", 10), stored_as(b"", session))
    assert verdict.verified_by is VerifiedBy.CLIENT_PARTS
