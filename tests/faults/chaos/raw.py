"""A client of its own making on the native API: it does what is allowed, in any order, repeatedly.

It keeps the promises of a good client: it names the bytes it means by checksums, sends a part again
when it is told to, and tries on until its deadline. What it is told is compared with what it knows.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faults.chaos.calls import Answer, Caller
from faults.chaos.manners import Manners
from faults.chaos.material import MIN_PART, Source
from faults.chaos.world import World

from gateway.core.checksums import ALGORITHMS
from gateway.core.plan import PartPlan, parse_ranges

_TRIES = 40


@dataclass
class RawClient:
    """One file on its way."""

    world: World
    caller: Caller
    source: Source
    rng: random.Random
    manners: Manners
    deadline: float
    session: dict[str, Any] = field(default_factory=dict)
    etags: dict[int, str] = field(default_factory=dict)
    recorded: dict[int, str] = field(default_factory=dict)
    flushes_at_record: dict[int, int] = field(default_factory=dict)
    upload: tuple[str, str] | None = None

    @property
    def session_id(self) -> str:
        return str(self.session["session_id"])

    @property
    def plan(self) -> PartPlan:
        return PartPlan(self.source.size, int(self.session["part_size"]))

    @property
    def out_of_time(self) -> bool:
        return self.world.history.now > self.deadline

    def gateway(self) -> int:
        return self.rng.randrange(len(self.world.gateways))

    async def run(self) -> str:
        """Do it all, and return how it ended."""
        if not await self.create():
            return "not created"
        numbers = list(range(1, self.plan.last_number + 1))
        self.rng.shuffle(numbers)
        chosen = numbers[: round(len(numbers) * self.manners.sends)]
        if not await self.send(chosen):
            return "gone"
        match self.manners.ending:
            case "walk away":
                return "walked away"
            case "abort":
                return await self.abort()
            case "abort behind" | "complete behind":
                await self.meddle()
        if self.manners.ending == "abort and complete":
            done, _ = await asyncio.gather(self.complete(), self.abort())
            return f"both: {done}"
        return await self.complete()

    async def create(self) -> bool:
        """Create until it works, each time with the same key."""
        size, key = self.source.size, f"key-{self.source.name}"
        body: dict[str, Any] = {"filename": self.source.name, "size": size}
        if size > MIN_PART and self.rng.random() < 0.8:
            body["part_size"] = MIN_PART
        if self.manners.declared:
            value = ALGORITHMS[self.manners.declared].value_of(self.bytes(0, size))
            body["checksum"] = {"algorithm": self.manners.declared, "value": value}
        for attempt in range(_TRIES):
            again = self.rng.random() < self.manners.repeat
            answers = await asyncio.gather(
                *(
                    self.caller.api(
                        "create", "POST", "/uploads", gateway=self.gateway(), body=body, key=key
                    )
                    for _ in range(1 + again)
                )
            )
            good = [answer.document for answer in answers if answer.ok]
            if len({document["session_id"] for document in good}) > 1:
                self.wrong("One idempotency key made two sessions.")
            if good:
                self.session = good[0]
                return True
            if self.out_of_time:
                break
            await self.back_off(attempt)
        return False

    async def send(self, numbers: list[int], *, replace: bool = False) -> bool:
        """Send parts until the store has them; False when the session takes no more."""
        left = list(numbers)
        for attempt in range(_TRIES):
            if not left:
                return True
            batch = left[: self.rng.randint(1, 4)]
            signed = await self.sign(batch, replace=replace)
            if signed is None:
                return False
            stored = await asyncio.gather(*(self.put(each) for each in signed))
            left = [number for number in left if number not in {n for n in stored if n}]
            if not await self.acknowledge_as_usual():
                return False
            if self.manners.other_bytes and self.recorded and self.rng.random() < 0.5:
                await self.send_other_bytes(self.rng.choice(sorted(self.recorded)))
            if self.out_of_time:
                return False
            if any(number in left for number in batch):
                await self.back_off(attempt)
            await asyncio.sleep(self.manners.slowness * self.rng.random())
        return False

    async def sign(self, numbers: list[int], *, replace: bool) -> list[dict[str, Any]] | None:
        """Sign parts; nothing where that did not work, None where it never will."""
        entries = []
        for number in numbers:
            entry: dict[str, Any] = {"part_number": number}
            if not self.manners.unbound:
                entry["checksum"] = self.checksum(number)
            if replace:
                entry["replace"] = True
            entries.append(entry)
        answer = await self.call("sign", "POST", "/parts/sign", {"parts": entries})
        if answer.ok:
            signed: list[dict[str, Any]] = answer.document["parts"]
            self.note_upload(signed[0]["url"])
            return signed
        if answer.code == "part_conflict" and not replace:
            # Bytes that nobody of ours has sent.
            if not self.manners.other_bytes:
                self.wrong("A part was refused for other bytes that were never sent.")
            return await self.sign(numbers, replace=True)
        return None if self.is_closed(answer) else []

    async def put(self, signed: dict[str, Any]) -> int | None:
        """Send one part, sometimes twice; return its number when the store has it."""
        number = int(signed["part_number"])
        twice = self.rng.random() < self.manners.repeat
        body = self.part(number)
        bound = not self.manners.unbound
        answers = await asyncio.gather(
            *(
                self.caller.put(self.session_id, signed, body, other=False, bound=bound)
                for _ in range(1 + twice)
            )
        )
        for status, etag in answers:
            if status == 200 and etag:
                self.etags[number] = etag
                return number
        return None

    async def acknowledge_as_usual(self) -> bool:
        """Acknowledge what the manners say; False when the session takes no more."""
        unsaid = [
            number for number in self.etags if self.recorded.get(number) != self.etags[number]
        ]
        how = self.manners.acknowledge
        if not unsaid or how == "never" or (how == "late" and self.rng.random() < 0.7):
            return True
        self.rng.shuffle(unsaid)
        batches = [[n] for n in unsaid] if how == "each" else [unsaid]
        for batch in batches:
            for _ in range(1 + (self.rng.random() < self.manners.repeat)):
                if not await self.acknowledge(batch):
                    return False
        return True

    async def acknowledge(self, numbers: list[int]) -> bool:
        """Acknowledge once; what does not work now is said again later."""
        parts = [self.word(number) for number in numbers]
        flushes = self.world.flushes
        answer = await self.call("acknowledge", "POST", "/parts", {"parts": parts})
        if answer.ok:
            said = {number: self.etags[number] for number in numbers}
            self.recorded |= said
            self.flushes_at_record |= dict.fromkeys(numbers, flushes)
            self.world.history.note(
                "recorded",
                name=self.source.name,
                session_id=self.session_id,
                parts={str(number): etag for number, etag in said.items()},
            )
            await self.compare_parts()
            return True
        if answer.code == "part_conflict":
            if not self.manners.other_bytes and not self.manners.unbound:
                self.wrong("A part was refused for other bytes that were never sent.")
            return True
        return not self.is_closed(answer)

    async def compare_parts(self) -> None:
        """Look whether every part acknowledged is listed, now and then."""
        if self.rng.random() > 0.25:
            return
        expected = dict(self.recorded)
        answer = await self.call("parts", "GET", "/parts")
        if not answer.ok:
            return
        listed = {part["part_number"]: part["etag"] for part in answer.document["parts"]}
        lost = {
            number: etag
            for number, etag in expected.items()
            if listed.get(number) != etag and self.recorded.get(number) == etag
        }
        if lost and not self.manners.other_bytes:
            self.wrong("Acknowledged parts are no longer listed.", lost=sorted(lost), listed=listed)

    async def send_other_bytes(self, number: int) -> None:
        """Try to put other bytes in the place of a recorded part, which has to be refused."""
        plan = self.plan
        length = plan.part_length(number) or 0
        if not length:
            return
        body = self.world.material.other_bytes(self.source, plan.offset(number), length)
        checksum = ALGORITHMS[self.session["checksum_algorithm"]].value_of(body)
        flushes = self.world.flushes
        answer = await self.call(
            "sign other",
            "POST",
            "/parts/sign",
            {"parts": [{"part_number": number, "checksum": checksum}]},
        )
        known = self.flushes_at_record[number] == flushes == self.world.flushes
        if answer.ok and known:
            self.wrong("Other bytes were signed for a part whose checksum is recorded.")
        # Without a checksum anything is signed: some clients do not know better.
        answer = await self.call(
            "sign other", "POST", "/parts/sign", {"parts": [{"part_number": number}]}
        )
        if not answer.ok:
            return
        [signed] = answer.document["parts"]
        status, etag = await self.caller.put(self.session_id, signed, body, other=True, bound=False)
        if status != 200 or not etag:
            return
        part = {"part_number": number, "etag": etag, "checksum": checksum}
        answer = await self.call("acknowledge other", "POST", "/parts", {"parts": [part]})
        known = self.flushes_at_record[number] == flushes == self.world.flushes
        if answer.ok and known:
            self.wrong("Other bytes were recorded in the place of an acknowledged part.")

    async def complete(self) -> str:
        """Complete until it is settled, several at once over all gateways."""
        for attempt in range(_TRIES):
            first = self.gateway()
            answers = await asyncio.gather(
                *(self.complete_once(first + each) for each in range(self.manners.completers))
            )
            for answer in answers:
                settled = await self.understand(answer)
                if settled:
                    if settled == "completed":
                        await self.after_completion()
                    return settled
            if self.out_of_time:
                break
            await self.back_off(attempt)
        return "out of time"

    async def complete_once(self, turn: int) -> Answer:
        body: dict[str, Any] = {}
        if self.manners.completes_with_parts:
            body["parts"] = [self.word(number) for number in sorted(self.etags)]
        wait = self.rng.choice([0, 1, 3])
        return await self.call(
            "complete",
            "POST",
            f"/complete?wait={wait}",
            body or None,
            gateway=turn % len(self.world.gateways),
        )

    async def understand(self, answer: Answer) -> str | None:
        """Do what a completion's answer asks for; return the state once it is settled."""
        if answer.status == 200:
            if answer.document["state"] != "completed":
                self.wrong("A completion was answered 200 without being completed.")
            return "completed"
        if answer.code == "parts_missing":
            numbers = parse_ranges(answer.details["missing"], maximum=self.plan.last_number)
            for number in numbers:
                self.etags.pop(number, None)
            await self.send(numbers)
        elif answer.code == "part_conflict":
            numbers = [int(number) for number in answer.details["parts"]]
            if not self.manners.other_bytes and not self.manners.unbound:
                self.wrong("A completion found other bytes that were never sent.")
            await self.send(numbers, replace=True)
        elif answer.code == "corrupt":
            return "corrupt"
        elif self.is_closed(answer):
            return "closed"
        elif answer.status == 404:
            self.wrong("A session that was created is not known.")
        return None

    async def after_completion(self) -> None:
        """Ask again for what cannot be undone any more."""
        if self.rng.random() > 0.4:
            return
        if (await self.call("complete", "POST", "/complete?wait=0")).status not in {200, None, 503}:
            self.wrong("Completed once, but not when it was asked again.")
        if (await self.call("abort", "DELETE", "")).ok:
            self.wrong("A completed session was aborted.")
        answer = await self.call("sign", "POST", "/parts/sign", {"parts": [{"part_number": 1}]})
        if answer.ok:
            self.wrong("A part was signed for a completed session.")
        body = await self.caller.read(self.session_id, gateway=self.gateway())
        if body is not None and body != self.bytes(0, self.source.size):
            self.wrong("The relay gave other bytes than those that were sent.")

    async def abort(self) -> str:
        """Abort until that is answered."""
        self.world.history.note(
            "intent", name=self.source.name, session_id=self.session_id, how="abort"
        )
        for attempt in range(_TRIES):
            answer = await self.call("abort", "DELETE", "")
            if answer.status == 204:
                return "aborted"
            if answer.code in {"session_completed", "session_corrupt"} or self.out_of_time:
                return answer.code or "out of time"
            await self.back_off(attempt)
        return "out of time"

    async def meddle(self) -> None:
        """Complete or abort at the store, behind the gateway's back."""
        if self.upload is None:
            return
        key, upload_id = self.upload
        how = self.manners.ending
        note = self.world.history.note
        note("intent", name=self.source.name, session_id=self.session_id, how=how)
        parts = sorted(self.etags.items())
        for attempt in range(4):
            error = await asyncio.to_thread(self.world.meddle, how, key, upload_id, parts)
            note("meddled", name=self.source.name, session_id=self.session_id, how=how, error=error)
            if error is None:
                return
            await self.back_off(attempt)

    async def call(
        self, verb: str, method: str, path: str, body: Any = None, *, gateway: int | None = None
    ) -> Answer:
        """Call the API about this session."""
        return await self.caller.api(
            verb,
            method,
            f"/uploads/{self.session_id}{path}",
            gateway=self.gateway() if gateway is None else gateway,
            body=body,
            session_id=self.session_id,
        )

    def is_closed(self, answer: Answer) -> bool:
        """Whether the session will never take parts again."""
        return answer.status == 410 or answer.details.get("state") in {"completed", "corrupt"}

    def word(self, number: int) -> dict[str, Any]:
        return {
            "part_number": number,
            "etag": self.etags[number],
            "checksum": self.checksum(number),
        }

    def part(self, number: int) -> bytes:
        start = self.plan.offset(number)
        return self.bytes(start, start + (self.plan.part_length(number) or 0))

    def bytes(self, start: int, stop: int) -> bytes:
        return self.world.material.bytes_of(self.source, start, stop)

    def checksum(self, number: int) -> str:
        return ALGORITHMS[self.session["checksum_algorithm"]].value_of(self.part(number))

    def note_upload(self, url: str) -> None:
        # Only whoever looks at the URLs knows what the store calls this upload.
        split = urlsplit(url)
        key = split.path.partition("/")[2].partition("/")[2]
        self.upload = (key, parse_qs(split.query)["uploadId"][0])

    async def back_off(self, attempt: int) -> None:
        await asyncio.sleep(min(1.0, 0.05 * 2**attempt) * self.rng.uniform(0.5, 1.0))

    def wrong(self, message: str, **facts: Any) -> None:
        self.world.history.wrong(
            self.source.name, message, session_id=self.session.get("session_id"), **facts
        )
