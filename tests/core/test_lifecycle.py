from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NOW, make_session

from gateway.core.events import EventType
from gateway.core.lifecycle import (
    CLOSED,
    SETTLED,
    TRANSITIONS,
    UNSETTLED,
    Trigger,
    advance,
    attention_at,
    recorded_event,
    require_open,
)
from gateway.core.model import Problem, State, UploadSession
from gateway.errors import Conflict, Gone

GRACE = timedelta(hours=24)


def session(state: State = State.OPEN) -> UploadSession:
    return make_session(state=state)


@pytest.mark.parametrize(
    "path",
    [
        [Trigger.COMPLETE, Trigger.STORED, Trigger.VERIFIED],
        [Trigger.COMPLETE, Trigger.REFUSED, Trigger.COMPLETE, Trigger.STORED, Trigger.VERIFIED],
        [Trigger.COMPLETE, Trigger.STORED, Trigger.MISMATCH, Trigger.RETRY, Trigger.VERIFIED],
    ],
)
def test_a_session_completes_by_way_of_its_checks(path: list[Trigger]) -> None:
    current = session()
    for trigger in path:
        current, _ = advance(current, trigger, NOW)
    assert current.state is State.COMPLETED
    assert current.version == 3 + len(path)


@given(st.sampled_from(State), st.lists(st.sampled_from(Trigger), max_size=12))
def test_nothing_reaches_completed_but_through_verification(
    state: State, triggers: list[Trigger]
) -> None:
    current = session(state)
    for trigger in triggers:
        before = current
        try:
            current, event = advance(current, trigger, NOW)
        except (Conflict, Gone):
            assert (before.state, trigger) not in TRANSITIONS
            continue
        if current.state is State.COMPLETED:
            assert before.state is State.VERIFYING
            assert event is not None
            assert event.type is EventType.COMPLETED
        assert before.state not in CLOSED | {State.COMPLETED, State.REJECTED}


def test_every_state_is_open_on_its_way_or_settled() -> None:
    assert {State.OPEN} | UNSETTLED | SETTLED == set(State)
    assert not UNSETTLED & SETTLED


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_a_closed_session_is_gone_for_good(state: State) -> None:
    with pytest.raises(Gone) as caught:
        advance(session(state), Trigger.COMPLETE, NOW)
    assert caught.value.details == {"state": state}
    assert caught.value.hint


def test_a_lost_upload_says_so_in_its_error() -> None:
    closed = replace(session(State.ABORTED), error=Problem("upload_lost", "It is lost.", ""))
    with pytest.raises(Gone, match="It is lost"):
        require_open(closed)


@pytest.mark.parametrize("state", sorted(UNSETTLED))
def test_a_busy_session_asks_for_patience(state: State) -> None:
    with pytest.raises(Conflict) as caught:
        advance(session(state), Trigger.ABORT, NOW)
    assert caught.value.code == "session_busy"
    assert caught.value.retryable


def test_a_completed_session_is_never_aborted() -> None:
    with pytest.raises(Conflict) as caught:
        advance(session(State.COMPLETED), Trigger.ABORT, NOW)
    assert caught.value.code == "session_completed"
    assert not caught.value.retryable


def test_an_event_is_named_after_the_version_that_made_it() -> None:
    after, event = advance(session(), Trigger.ABORT, NOW)
    assert event is not None
    assert event.event_id == f"{after.session_id}:4"


def test_a_record_rebuilt_after_clearing_repeats_the_same_event() -> None:
    after, event = advance(session(), Trigger.ABORT, NOW)
    cleared = replace(after, storage_cleared=True, version=after.version + 1)
    again = recorded_event(cleared)
    assert event is not None
    assert again is not None
    assert (again.event_id, again.type) == (event.event_id, event.type)


@pytest.mark.parametrize("state", [State.OPEN, *sorted(UNSETTLED)])
def test_a_session_that_is_not_settled_was_brought_there_by_no_event(state: State) -> None:
    assert recorded_event(session(state)) is None


def test_a_new_session_rebuilt_repeats_the_event_of_its_creation() -> None:
    event = recorded_event(replace(session(), version=1))
    assert event is not None
    assert (event.event_id, event.type) == (f"{session().session_id}:1", EventType.CREATED)


def test_attention_comes_at_once_soon_or_never() -> None:
    assert attention_at(session(State.COMPLETING), GRACE) == NOW
    assert attention_at(session(State.ABORTED), GRACE) == NOW
    assert attention_at(replace(session(State.ABORTED), storage_cleared=True), GRACE) is None
    assert attention_at(session(State.COMPLETED), GRACE) is None
    soon = attention_at(session(), GRACE)
    assert soon is not None
    assert NOW < soon <= NOW + timedelta(minutes=10)
    expired = replace(session(), expires_at=NOW - GRACE)
    assert attention_at(expired, GRACE) == NOW
