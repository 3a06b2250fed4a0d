"""What is done to the deployment, and when: drawn from the seed before the run begins.

Two decks are dealt, so that no kind is left out for long: disasters, which befall a whole process,
and faults of single calls, which the proxy does to the next ones that fit. A disaster whose victim
is still down from the one before is passed over, so that a slow machine gets work done as well.

The store is killed by SIGKILL like the others: SeaweedFS has handed what it acknowledged to the
kernel by then, and loses nothing of it (`tests/embedded/test_seaweed.py`); these runs agree.
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from faults.chaos.processes import Gateway
from faults.chaos.world import World
from faults.proxy import Call, Fault, Kind

Card = TypeVar("Card")

PROBE = ".gateway/probe/"
# A fault that nothing has met for so long is withdrawn.
_SPELL = 15.0


@dataclass(frozen=True, slots=True)
class Disaster:
    """One process meets `kind` at `at` seconds, for `lasts` seconds."""

    at: float
    kind: str
    lasts: float
    victim: int


@dataclass(frozen=True, slots=True)
class Mishap:
    """From `at` seconds on, the `nth` fitting call and `times - 1` after it meet a fault."""

    at: float
    operation: str
    kind: Kind
    after: bool
    nth: int
    times: int
    seconds: float
    byte: int


DISASTERS = (
    "gateway killed",
    "gateway killed",
    "gateway terminated",
    "gateway paused",
    "valkey killed",
    "valkey paused",
    "valkey emptied",
    "store killed",
    "store paused",
    "both gateways killed",
)

_ANY = (Kind.SLOW_DOWN, Kind.FAIL, Kind.RESET, Kind.STALL, Kind.DROP)
# What each operation meets before the store is asked, and after it has done what is asked. Nothing
# claims success for what has not happened where S3 has no such answer, nor are replies flipped:
# nothing but TLS protects those. A PutObject is never late: the one that writes a sidecar would
# undo a newer one, and no store but the newest has a condition against that.
_BEFORE: dict[str, tuple[Kind, ...]] = {
    "UploadPart": (
        *_ANY,
        Kind.LATE,
        Kind.CUT_REQUEST,
        Kind.FLIP_REQUEST,
        Kind.OK_EMPTY,
        Kind.OK_WITHOUT_ETAG,
    ),
    "CompleteMultipartUpload": (
        *_ANY,
        Kind.LATE,
        Kind.OK_EMPTY,
        Kind.OK_WITH_ERROR,
        Kind.OK_WITHOUT_ETAG,
        Kind.CUT_REPLY,
        Kind.SHORT_REPLY,
        Kind.WHITE_SPACE,
    ),
    "CreateMultipartUpload": (*_ANY, Kind.LATE, Kind.CUT_REPLY),
    "AbortMultipartUpload": (*_ANY, Kind.LATE),
    "ListParts": (*_ANY, Kind.CUT_REPLY, Kind.SHORT_REPLY, Kind.OK_EMPTY),
    "ListObjectsV2": (*_ANY, Kind.CUT_REPLY, Kind.SHORT_REPLY),
    "HeadObject": _ANY,
    "PutObject": _ANY,
    "GetObject": (*_ANY, Kind.CUT_REPLY),
}
_AFTER: dict[str, tuple[Kind, ...]] = {
    "UploadPart": (Kind.FAIL, Kind.DROP, Kind.RESET, Kind.STALL, Kind.OK_EMPTY),
    "CompleteMultipartUpload": (
        Kind.FAIL,
        Kind.DROP,
        Kind.RESET,
        Kind.STALL,
        Kind.OK_EMPTY,
        Kind.OK_WITH_ERROR,
        Kind.WHITE_SPACE,
    ),
    "CreateMultipartUpload": (Kind.FAIL, Kind.DROP, Kind.RESET, Kind.STALL),
    "AbortMultipartUpload": (Kind.FAIL, Kind.DROP, Kind.RESET, Kind.STALL),
    "PutObject": (Kind.FAIL, Kind.DROP, Kind.RESET, Kind.STALL),
}
# Half of what is dealt concerns the calls that matter most.
_OFTEN = ("UploadPart", "CompleteMultipartUpload")


def draw_disasters(rng: random.Random, seconds: float, every: float) -> list[Disaster]:
    """Deal disasters over the time, `every` so many seconds on average."""
    deck = _dealt(rng, DISASTERS)
    drawn, at = [], rng.uniform(0.5, every)
    while at < seconds:
        drawn.append(Disaster(at, next(deck), rng.uniform(0.2, 4.0), rng.randrange(2)))
        at += rng.uniform(0.4, 1.6) * every
    return drawn


def draw_mishaps(rng: random.Random, seconds: float, every: float) -> list[Mishap]:
    """Deal faults of calls over the time."""
    cards = [
        (operation, kind, after)
        for kinds, after in ((_BEFORE, False), (_AFTER, True))
        for operation in kinds
        for kind in kinds[operation]
    ]
    often = _dealt(rng, [card for card in cards if card[0] in _OFTEN])
    others = _dealt(rng, [card for card in cards if card[0] not in _OFTEN])
    drawn, at = [], 0.0
    while (at := at + rng.uniform(0.2, 1.8) * every) < seconds:
        operation, kind, after = next(often if rng.random() < 0.5 else others)
        drawn.append(
            Mishap(
                at,
                operation,
                kind,
                after,
                nth=rng.randint(1, 3),
                times=rng.choices([1, 2, 5], weights=[70, 20, 10])[0],
                seconds=rng.uniform(0.2, 5.0),
                byte=rng.randrange(4000),
            )
        )
    return drawn


class Disasters:
    """Brings them about; `counts` says what really happened."""

    def __init__(self, world: World) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._down: set[str] = set()
        self._faults: list[Fault] = []
        self._struck: Counter[str] = Counter()
        self._began = 0.0
        self._doing: dict[str, Callable[[Disaster], Awaitable[None]]] = {
            "gateway killed": self._kill_gateway,
            "gateway terminated": self._terminate_gateway,
            "gateway paused": self._pause_gateway,
            "both gateways killed": self._kill_both,
            "valkey killed": self._kill_valkey,
            "valkey paused": self._pause_valkey,
            "valkey emptied": self._empty_valkey,
            "store killed": self._kill_store,
            "store paused": self._pause_store,
        }

    async def run(self, disasters: list[Disaster], mishaps: list[Mishap]) -> None:
        """Bring everything about in its time, and return when all that was hit is up again."""
        self._began = self._world.history.now
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arm(mishaps))
            for disaster in disasters:
                group.create_task(self._bring_about(disaster))

    def lift(self) -> None:
        """Take all faults of calls out of force."""
        self._world.proxy.clear()
        for fault in self._faults:
            self._struck[f"{fault.operation} {fault.kind}{' after' * fault.after}"] += fault.hits
        self._faults.clear()

    @property
    def struck(self) -> Counter[str]:
        """How often each fault of a call has struck, once they are lifted."""
        return +self._struck

    async def _arm(self, mishaps: list[Mishap]) -> None:
        history = self._world.history
        last_lift = history.now
        for mishap in mishaps:
            await self._until(mishap.at)
            if history.now - last_lift > _SPELL:
                self.lift()
                # Of a long run nobody needs every call that the proxy has seen.
                self._world.proxy.forget()
                last_lift = history.now
            fault = Fault(
                mishap.operation,
                mishap.kind,
                nth=mishap.nth,
                times=mishap.times,
                after=mishap.after,
                when=_is_no_probe,
                seconds=mishap.seconds,
                at=_position(mishap),
            )
            self._faults.append(self._world.proxy.add(fault))
            history.note(
                "fault",
                kind=f"{mishap.operation} {mishap.kind}{' after' * mishap.after}",
                nth=mishap.nth,
                times=mishap.times,
                seconds=round(mishap.seconds, 2),
            )

    async def _bring_about(self, disaster: Disaster) -> None:
        await self._until(disaster.at)
        victim = disaster.kind.partition(" ")[0]
        victims = {f"gateway {disaster.victim}"} if victim == "gateway" else {victim}
        if victim == "both":
            victims = {"gateway 0", "gateway 1"}
        if victims & self._down:
            return
        self._down |= victims
        if not await self._are_up(victims):
            self._down -= victims
            return
        self._world.history.note(
            "fault", kind=disaster.kind, victim=disaster.victim, seconds=round(disaster.lasts, 2)
        )
        self.counts[disaster.kind] += 1
        try:
            await self._doing[disaster.kind](disaster)
        finally:
            self._down -= victims
            self._world.history.note("fault", kind=f"{disaster.kind}: over", victim=disaster.victim)

    async def _are_up(self, victims: set[str]) -> bool:
        """Tell whether these gateways, if it is they, have been ready since they were started."""
        up = [
            await g.has_come_up() for g in self._world.gateways if f"gateway {g.number}" in victims
        ]
        return all(up)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self._began + at - self._world.history.now))

    async def _kill_gateway(self, disaster: Disaster) -> None:
        gateway = self._gateway(disaster)
        await gateway.kill()
        # Half the time it is back at once.
        await asyncio.sleep(max(0.0, disaster.lasts - 2.0))
        gateway.start()

    async def _terminate_gateway(self, disaster: Disaster) -> None:
        gateway = self._gateway(disaster)
        code = await gateway.stop()
        if code != 0:
            self._world.history.wrong("", f"Gateway {gateway.number} ended {code} after SIGTERM.")
        gateway.start()

    async def _pause_gateway(self, disaster: Disaster) -> None:
        gateway = self._gateway(disaster)
        gateway.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(disaster.lasts)
        finally:
            gateway.send(signal.SIGCONT)

    async def _kill_both(self, disaster: Disaster) -> None:
        await asyncio.gather(*(gateway.kill() for gateway in self._world.gateways))
        await asyncio.sleep(disaster.lasts / 4)
        for gateway in self._world.gateways:
            gateway.start()

    async def _kill_valkey(self, disaster: Disaster) -> None:
        await self._world.valkey.kill()
        await asyncio.sleep(disaster.lasts / 2)
        await self._world.valkey.start()

    async def _pause_valkey(self, disaster: Disaster) -> None:
        self._world.valkey.pause()
        try:
            await asyncio.sleep(disaster.lasts)
        finally:
            self._world.valkey.resume()

    async def _empty_valkey(self, _: Disaster) -> None:
        await self._world.empty_valkey()

    async def _kill_store(self, disaster: Disaster) -> None:
        await self._world.store.kill()
        await asyncio.sleep(disaster.lasts / 4)
        await self._world.store.start()

    async def _pause_store(self, disaster: Disaster) -> None:
        self._world.store.pause()
        try:
            await asyncio.sleep(disaster.lasts)
        finally:
            self._world.store.resume()

    def _gateway(self, disaster: Disaster) -> Gateway:
        return self._world.gateways[disaster.victim]


def _is_no_probe(call: Call) -> bool:
    # What a gateway finds out at its start about the store is another matter: with a fault in it,
    # it would come up with other abilities, or not at all while the faults last.
    return not call.key.startswith(PROBE)


def _position(mishap: Mishap) -> int | None:
    if mishap.kind in {Kind.FLIP_REQUEST, Kind.CUT_REQUEST, Kind.RESET}:
        return mishap.byte
    return None


def _dealt(rng: random.Random, cards: Sequence[Card]) -> Iterator[Card]:
    """Deal the deck over and over, shuffled anew each time."""
    while True:
        yield from rng.sample(cards, len(cards))
