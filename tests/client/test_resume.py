"""Which stored parts are relied on, and which session is gone on with."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.api import GatewayClient
from gateway.client.journal import Entry, PartRecord
from gateway.client.model import Session, StoredPart, read_session
from gateway.client.resume import Verdict, find_session, judge
from gateway.errors import NotFound

OURS, OTHER = "AAAAAAAAAAE=", "AAAAAAAAAAI="
MD5, OTHER_MD5 = "a" * 32, "b" * 32

sums = st.sampled_from([OURS, OTHER])
stored_parts = st.none() | st.builds(
    StoredPart,
    part_number=st.just(1),
    size=st.sampled_from([9, 10]),
    etag=st.sampled_from([MD5, OTHER_MD5, "opaque"]),
    checksum=st.none() | sums,
)
records = st.none() | st.builds(
    PartRecord, etag=st.sampled_from([MD5, OTHER_MD5, "opaque"]), checksum=sums
)


@given(stored_parts, records, st.none() | st.sampled_from([MD5, OTHER_MD5]))
def test_a_part_is_relied_on_only_when_its_bytes_are_known_to_be_the_files(
    stored: StoredPart | None, record: PartRecord | None, md5: str | None
) -> None:
    verdict = judge(stored, size=10, checksum=OURS, md5=md5, record=record)
    if verdict in {Verdict.SKIP, Verdict.ACKNOWLEDGE}:
        assert stored is not None
        assert stored.size == 10
        by_gateway = stored.checksum == OURS
        by_journal = record == PartRecord(stored.etag, OURS)
        by_md5 = md5 == stored.etag
        assert by_gateway or (stored.checksum is None and (by_journal or by_md5))
    elif stored is not None:
        assert verdict is Verdict.REPLACE


@pytest.mark.parametrize(
    ("stored", "record", "md5", "expected"),
    [
        (None, None, None, Verdict.SEND),
        (StoredPart(1, 10, MD5, OURS), None, None, Verdict.SKIP),
        (StoredPart(1, 10, MD5, OTHER), None, MD5, Verdict.REPLACE),
        (StoredPart(1, 9, MD5, OURS), None, None, Verdict.REPLACE),
        (StoredPart(1, 10, MD5), None, None, Verdict.REPLACE),
        (StoredPart(1, 10, MD5), None, MD5, Verdict.ACKNOWLEDGE),
        (StoredPart(1, 10, MD5.upper()), None, MD5, Verdict.ACKNOWLEDGE),
        (StoredPart(1, 10, OTHER_MD5), None, MD5, Verdict.REPLACE),
        (StoredPart(1, 10, "x"), PartRecord("x", OURS), None, Verdict.ACKNOWLEDGE),
        (StoredPart(1, 10, "x"), PartRecord("x", OTHER), None, Verdict.REPLACE),
        (StoredPart(1, 10, "x"), PartRecord("y", OURS), None, Verdict.REPLACE),
    ],
)
def test_each_kind_of_evidence(
    stored: StoredPart | None, record: PartRecord | None, md5: str | None, expected: Verdict
) -> None:
    assert judge(stored, size=10, checksum=OURS, md5=md5, record=record) is expected


def session(session_id: str, **changes: Any) -> Session:
    document = {
        "session_id": session_id,
        "state": "open",
        "filename": "file",
        "size": 10,
        "part_size": 10,
        "checksum_algorithm": "crc64nvme",
        "received_bytes": 0,
        **changes,
    }
    return read_session(document)


class Sessions:
    """Stands in for a client; what is asked is noted."""

    def __init__(self, *sessions: Session) -> None:
        self._sessions = {session.session_id: session for session in sessions}
        self.asked: list[Any] = []

    async def get(self, session_id: str) -> Session:
        if session_id not in self._sessions:
            raise NotFound("There is none.")
        return self._sessions[session_id]

    async def find(self, *, fingerprint: str, states: tuple[str, ...]) -> AsyncIterator[Session]:
        self.asked.append((fingerprint, states))
        for found in self._sessions.values():
            if found.state in states:
                yield found


async def find(entry: Entry | None, *sessions: Session) -> str | None:
    found = await find_session(cast("GatewayClient", Sessions(*sessions)), entry, "mark", 10)
    return found.session_id if found else None


@pytest.mark.parametrize("state", ["open", "completing", "verifying", "completed"])
async def test_the_journals_session_comes_first(state: str) -> None:
    rich = session("b", received_bytes=9)
    assert await find(Entry("a"), session("a", state=state), rich) == "a"


@pytest.mark.parametrize("state", ["corrupt", "rejected", "aborted", "expired"])
async def test_a_session_that_ended_badly_is_not_gone_on_with(state: str) -> None:
    assert await find(Entry("a"), session("a", state=state)) is None
    assert await find(Entry("a"), session("a", state=state), session("b")) == "b"


async def test_a_session_the_gateway_does_not_know_is_forgotten() -> None:
    assert await find(Entry("a"), session("b")) == "b"
    assert await find(Entry("a")) is None


async def test_without_a_journal_a_completed_session_is_not_found() -> None:
    assert await find(None, session("a", state="completed")) is None


async def test_of_several_the_one_that_has_received_most_is_taken() -> None:
    found = await find(None, session("a", received_bytes=1), session("b", received_bytes=5))
    assert found == "b"


async def test_a_session_for_another_size_is_passed_over() -> None:
    assert await find(Entry("a"), session("a", size=11)) is None
    assert await find(None, session("a", size=None)) is None
