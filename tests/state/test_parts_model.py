"""Whatever happens to the parts of a session, Redis agrees with a plain dictionary."""

import secrets
from dataclasses import dataclass, field, replace

import pytest
from conformance.session_store import new_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import Part
from gateway.core.ports import PartOutcome
from gateway.errors import Conflict
from gateway.state.redis.client import Client
from gateway.state.redis.store import RedisSessionStore, RedisStoreOptions

PARTS = st.builds(
    Part,
    number=st.sampled_from([1, 2, 8, 9, 10_000]),
    size=st.sampled_from([0, 1, 2**40]),
    etag=st.sampled_from(["a", "b"]),
    checksum=st.sampled_from([None, "x", "y"]),
)
SOME_PARTS = st.lists(PARTS, max_size=4)


@dataclass(frozen=True)
class Add:
    parts: list[Part]


@dataclass(frozen=True)
class Allow:
    numbers: list[int]


@dataclass(frozen=True)
class Heal:
    found: list[Part]
    lost: list[Part]


@dataclass(frozen=True)
class Report:
    in_flight: dict[int, int]


STEPS = st.one_of(
    st.builds(Add, SOME_PARTS),
    st.builds(Add, SOME_PARTS),
    st.builds(Allow, st.lists(st.sampled_from([1, 2, 8]), max_size=2)),
    st.builds(Heal, SOME_PARTS, SOME_PARTS),
    st.builds(Report, st.dictionaries(st.sampled_from([1, 2, 9]), st.integers(0, 100))),
)


@dataclass
class Model:
    """The rules of the port, as plainly as they can be said."""

    parts: dict[int, Part] = field(default_factory=dict)
    replaceable: set[int] = field(default_factory=set)
    in_flight: dict[int, int] = field(default_factory=dict)

    def add(self, sent: list[Part]) -> list[PartOutcome] | None:
        parts, replaceable = dict(self.parts), set(self.replaceable)
        outcomes = []
        for part in sent:
            known = parts.get(part.number)
            checksums = {part.checksum, known.checksum} if known else set()
            if known is None:
                outcomes.append(PartOutcome.STORED)
                replaceable.discard(part.number)
            elif (len(checksums) == 1) if None not in checksums else part.etag == known.etag:
                outcomes.append(PartOutcome.SAME)
                part = replace(part, checksum=part.checksum or known.checksum)  # noqa: PLW2901 - what is kept of it.
            elif part.number in replaceable:
                outcomes.append(PartOutcome.STORED)
                replaceable.remove(part.number)
            else:
                return None
            parts[part.number] = part
        self.parts, self.replaceable = parts, replaceable
        for part in sent:
            self.in_flight.pop(part.number, None)
        return outcomes

    def heal(self, found: list[Part], lost: list[Part]) -> None:
        for part in found:
            known = self.parts.get(part.number)
            if known is None:
                self.parts[part.number] = part
                self.in_flight.pop(part.number, None)
            elif known.etag == part.etag:
                self.parts[part.number] = replace(known, size=part.size)
                if known.size != part.size:
                    self.in_flight.pop(part.number, None)
        for part in lost:
            if part.number in self.parts and self.parts[part.number].etag == part.etag:
                del self.parts[part.number]


@settings(
    max_examples=150,
    deadline=None,
    # The client and its server are shared; every example has a session of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, max_size=12))
async def test_parts_and_counters_agree_with_a_dictionary(
    client: Client, steps: list[Add | Allow | Heal | Report]
) -> None:
    store = RedisSessionStore(client, RedisStoreOptions(prefix=f"model-{secrets.token_hex(8)}"))
    session_id = (await store.add(new_session(size=None))).session_id
    model = Model()
    for step in steps:
        before = await store.parts(session_id)
        match step:
            case Add(parts):
                expected = model.add(parts)
                if expected is None:
                    with pytest.raises(Conflict, match="Other bytes"):
                        await store.add_parts(session_id, parts)
                else:
                    assert await store.add_parts(session_id, parts) == expected
            case Allow(numbers):
                model.replaceable |= set(numbers)
                await store.allow_replace(session_id, numbers)
            case Heal(found, lost):
                model.heal(found, lost)
                await store.heal_parts(session_id, found=found, lost=lost)
            case Report(in_flight):
                model.in_flight = {n: b for n, b in in_flight.items() if n not in model.parts}
                await store.report_in_flight(session_id, in_flight)
        known = await store.parts(session_id)
        assert {part.number: part for part in known.parts} == model.parts
        if known.parts != before.parts:
            assert known.revision != before.revision
        progress = (await store.get(session_id)).progress
        assert progress.numbers() == sorted(model.parts)
        assert progress.received_parts == len(model.parts)
        assert progress.received_bytes == sum(part.size for part in model.parts.values())
        assert progress.in_flight_bytes == sum(model.in_flight.values())
