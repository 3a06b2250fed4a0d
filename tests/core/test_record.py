from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import make_session

from gateway.core.checksums import Checksum
from gateway.core.model import Part, Problem, State, StoredObject, UploadSession, VerifiedBy
from gateway.core.record import (
    part_from_record,
    part_to_record,
    session_from_record,
    session_to_record,
    time_from_text,
    time_to_text,
)
from gateway.errors import Internal


def full_session() -> UploadSession:
    return make_session(
        state=State.CORRUPT,
        filename="été 🎬.mp4",
        checksum=Checksum("sha256", "A" * 43 + "="),
        metadata={"clé": "valeur"},
        fingerprint="f1",
        object=StoredObject("b", "k", 10, "e-2", {"crc64nvme": "AAAAAAAAAAA="}, {"a": "b"}),
        verified_by=VerifiedBy.CLIENT_PARTS,
        error=Problem("checksum_mismatch", "No.", "Again."),
        storage_cleared=True,
    )


@pytest.mark.parametrize("session", [make_session(), make_session(size=None), full_session()])
def test_a_session_comes_back_as_it_was(session: UploadSession) -> None:
    assert session_from_record(session_to_record(session)) == session


def test_fields_of_a_newer_version_are_ignored() -> None:
    record = session_to_record(full_session())
    record["tenant"] = "new"
    record["object"]["storage_class"] = "new"
    assert session_from_record(record) == full_session()


@pytest.mark.parametrize(
    "poison",
    [
        {"state": "unheard-of"},
        {"created_at": "yesterday"},
        {"upload": None},
        {"upload": {"bucket": "b"}},
        {"checksum": {"algorithm": "crc32", "value": "?"}},
        {"metadata": 7},
        {"size": "ten"},
        {"part_size": 0},
        {"version": None},
    ],
)
def test_a_poisoned_record_says_so(poison: dict[str, object]) -> None:
    with pytest.raises(Internal) as caught:
        session_from_record(session_to_record(full_session()) | poison)
    assert caught.value.code == "record_unreadable"


def test_a_record_with_a_field_missing_says_so() -> None:
    record = session_to_record(full_session())
    del record["owner"]
    with pytest.raises(Internal):
        session_from_record(record)


@given(st.integers(1, 10_000), st.integers(0, 2**33), st.text(), st.none() | st.text())
def test_a_part_comes_back_as_it_was(
    number: int, size: int, etag: str, checksum: str | None
) -> None:
    part = Part(number, size, etag, checksum)
    assert part_from_record(part_to_record(part)) == part
    relayed = replace(part, relayed=True)
    assert part_from_record(part_to_record(relayed)) == relayed
    assert part_from_record([*part_to_record(part), "of a newer version"]) == part


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_times_are_utc_to_the_millisecond(moment: datetime) -> None:
    text = time_to_text(moment)
    assert text.endswith("Z")
    assert timedelta(0) <= moment - time_from_text(text) < timedelta(milliseconds=1)


def test_live_progress_is_no_part_of_the_record() -> None:
    assert "progress" not in session_to_record(replace(make_session(), version=9))
