"""Looks at everything when all faults are lifted, and says what is not as it was promised.

The store is asked by somebody else's client, past the proxy. What has to hold, and from where:

- completed: the object has the file's bytes, and nothing but them (laws 1, 3, 11).
- A part acknowledged is listed as long as the session is open (law 4).
- A session whose end was answered keeps it, also when Valkey is emptied afterwards (law 4).
- Each end has one event with one id, however often it was recorded anew: an outbox that is lost
  with Valkey is written again from the sidecar, so that receivers can drop the second (law 12).
- Nothing is left: no multipart upload of a closed session, no lease, nothing under way, nothing
  that still wants attention. A completed session may keep an upload beside its object, since that
  is never aborted (law 2).
- Sessions end aborted, expired or corrupt only where somebody gave reason to.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import orjson
from faults.chaos.history import History
from faults.chaos.ledger import File, Ledger, Told, agree
from faults.chaos.world import BUCKET, PREFIX, TOKEN, World
from minio.error import S3Error

T = TypeVar("T")
SIDECARS = ".gateway/sessions/"
_AT_ONCE = 8
_SETTLE_SECONDS = 60.0
_UNDER_WAY = {"completing", "verifying"}
_CLOSED = {"aborted", "expired"}
_END_EVENTS = {
    "completed": "upload.completed",
    "corrupt": "upload.corrupt",
    "aborted": "upload.aborted",
    "expired": "upload.expired",
}


@dataclass
class Verdict:
    """What was found: `wrongs` fail the run, `figures` are for its summary."""

    wrongs: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)


class Judge:
    """Judges one run, once; the steps of `judge` build on each other."""

    def __init__(self, world: World, history: History, http: aiohttp.ClientSession) -> None:
        self._world = world
        self._history = history
        self._http = http
        self._verdict = Verdict()
        self._ledger = Ledger()
        self._sessions: dict[str, dict[str, Any]] = {}
        self._sidecars: dict[str, dict[str, Any]] = {}

    async def judge(self) -> Verdict:
        """Wait until all is settled, within a bound, and compare."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._wait("sessions are under way", self._under_way)
        self._verdict.figures["seconds to settle"] = round(loop.time() - began, 1)
        self._ledger = Ledger.of(self._history)
        self._verdict.wrongs += self._ledger.wrongs
        await self._close_open_ones()
        await self._wait("something is left", self._left)
        await self._read_sessions()
        async with self._world.redis() as client:
            await self._world.look_into_outboxes(client)
        self._ledger = Ledger.of(self._history)
        await self._each(self._compare)
        await self._find_leftovers()
        await self._forget_and_compare()
        self._count()
        return self._verdict

    # What is still going on.

    async def _under_way(self) -> list[str]:
        await self._read_sessions()
        return [i for i, session in self._sessions.items() if session["state"] in _UNDER_WAY]

    async def _left(self) -> list[str]:
        uploads = await asyncio.to_thread(self._list_uploads)
        await self._read_sidecars()
        left = [
            f"upload of {session_id}, {self._state(session_id)}"
            for session_id, upload_id in uploads
            if self._state(session_id) in _CLOSED
            and self._sidecars[session_id]["upload"]["upload_id"] == upload_id
        ]
        # A sweep is always going on, and that of staging keeps others from it for a day.
        kept = {f"{PREFIX}:{{{name}}}:lease".encode() for name in ("sweep", "leftovers")}
        async with self._world.redis() as client:
            left += [
                key.decode()
                async for key in client.scan_iter(f"{PREFIX}:*:lease", count=1000)
                if key not in kept
            ]
            # Creations that died are looked after later than anybody here waits for.
            left += [i for i in await _due(client) if i in self._sidecars]
        return left

    async def _wait(self, what: str, look: Callable[[], Any]) -> None:
        found: list[str] = []
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                # What others do sets no event here.
                while found := await look():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self._wrong("", f"After {_SETTLE_SECONDS:g} s {what}: {found[:10]}")

    async def _close_open_ones(self) -> None:
        """Compare the parts of what is open, and abort it as an administrator would."""
        open_ones = [i for i, session in self._sessions.items() if session["state"] == "open"]
        self._verdict.figures["open at the end"] = len(open_ones)

        async def close(session_id: str) -> None:
            told = self._told(session_id)
            listed = await self._call("GET", f"/uploads/{session_id}/parts?limit=10000")
            if listed is not None and not told.other_bytes and not told.unbound:
                etags = {part["part_number"]: part["etag"] for part in listed["parts"]}
                for number, etag in told.recorded.items():
                    if etags.get(number) != etag:
                        self._wrong(session_id, f"Part {number} was acknowledged, and is lost.")
            self._history.note("intent", name=told.name, session_id=session_id, how="abort")
            await self._call("DELETE", f"/uploads/{session_id}")

        await self._each(close, open_ones)

    # One session.

    async def _compare(self, session_id: str) -> None:
        session, told = self._sessions[session_id], self._told(session_id)
        state = session["state"]
        file = self._ledger.files.get(session["filename"])
        if file is None:
            self._wrong(session_id, "Nobody has made this session.")
            return
        if told.settled is not None and not agree(told.settled, state):
            self._wrong(session_id, f"It was answered {told.settled}, and is {state}.")
        record = self._sidecars.get(session_id)
        if record is None or record["state"] != state:
            kept = record and record["state"]
            self._wrong(session_id, f"It is {state}, but its sidecar says {kept}.")
        self._compare_events(session_id, state, told)
        found = await asyncio.to_thread(self._read_object, session_id)
        if state == "completed":
            self._compare_object(session_id, found, file)
        elif state in _CLOSED:
            if found is not None and "complete behind" not in told.intents:
                self._wrong(session_id, f"It is {state}, but there is an object.")
            self._compare_closing(session_id, session, told)
        elif state != "corrupt":
            self._wrong(session_id, f"It is still {state}.")
        elif not told.unbound and not told.other_bytes:
            self._wrong(session_id, f"It is corrupt for no reason: {session['error']}")

    def _compare_object(self, session_id: str, found: tuple[int, str] | None, file: File) -> None:
        expected = self._world.material.bytes_of(file.source)
        if found != (len(expected), hashlib.sha256(expected).hexdigest()):
            self._wrong(session_id, "It is completed, but its object holds other bytes.")
        voucher = self._sessions[session_id]["verified_by"]
        if file.declared and voucher != "client_file":
            self._wrong(session_id, f"Its file was declared, but it is verified by {voucher}.")

    def _compare_closing(self, session_id: str, session: dict[str, Any], told: Told) -> None:
        if session["state"] == "aborted":
            lost = (session["error"] or {}).get("code") == "upload_lost"
            reason = "abort behind" if lost else "abort"
            if reason not in told.intents:
                self._wrong(session_id, f"It was aborted for no reason: {session['error']}")
            return
        ended = datetime.fromisoformat(session["expires_at"]) + timedelta(seconds=self._world.grace)
        if datetime.fromisoformat(self._sidecars[session_id]["updated_at"]) < ended:
            self._wrong(session_id, "It has expired before its time.")

    def _compare_events(self, session_id: str, state: str, told: Told) -> None:
        ends = {i: kind for i, kind in told.events.items() if kind in _END_EVENTS.values()}
        if list(ends.values()) != [_END_EVENTS.get(state)]:
            self._wrong(session_id, f"It is {state}, and its events are {told.events}.")
        if list(told.events.values()).count("upload.created") != 1:
            self._wrong(session_id, f"Its creation has not one event: {told.events}.")

    def _read_object(self, session_id: str) -> tuple[int, str] | None:
        """Return size and SHA-256 of what lies under the session's key. It blocks."""
        key = self._sidecars[session_id]["upload"]["key"]
        try:
            answer = self._world.oracle.get_object(BUCKET, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise
        with closing(answer):
            body = answer.read()
            answer.release_conn()
        return len(body), hashlib.sha256(body).hexdigest()

    # Everything together.

    async def _find_leftovers(self) -> None:
        uploads = await asyncio.to_thread(self._list_uploads)
        async with self._world.redis() as client:
            announced = await _due(client)
        found: Counter[str] = Counter()
        for session_id, _ in uploads:
            record = self._sidecars.get(session_id)
            if record is not None and record["state"] not in {*_CLOSED, "open"}:
                # Law 2: whatever upload it is, where its object is it is not touched. No client
                # has ever heard of those that died with their creation, so they hold no bytes.
                found["beside their object, which keeps them"] += 1
            elif session_id in announced:
                found["of creations that died, announced"] += 1
            else:
                self._wrong(session_id, f"An upload is left, and its session is {record}.")
        self._verdict.figures["uploads left"] = dict(found)
        keys = await asyncio.to_thread(self._list_keys, "uploads/")
        for key in keys:
            state = self._state(key.split("/")[1])
            told = self._told(key.split("/")[1])
            if state not in {"completed", "corrupt"} and "complete behind" not in told.intents:
                self._wrong(key, f"There is an object, and its session is {state}.")
        probes = await asyncio.to_thread(self._list_keys, ".gateway/probe/")
        self._verdict.figures["objects left by probes"] = len(probes)

    async def _forget_and_compare(self) -> None:
        """Empty Valkey once more: every session has to come back as what it was."""
        before = {i: session["state"] for i, session in self._sessions.items()}
        events = {i: dict(told.events) for i, told in self._ledger.sessions.items()}
        await self._world.empty_valkey()
        await self._wait("Valkey is not rebuilt", self._not_rebuilt)
        await self._read_sessions()
        for session_id, state in before.items():
            now = self._sessions.get(session_id, {}).get("state")
            if now != state:
                self._wrong(session_id, f"It was {state}, and without Redis's memory it is {now}.")
        async with self._world.redis() as client:
            await self._world.look_into_outboxes(client)
        for session_id, told in Ledger.of(self._history).sessions.items():
            if told.events != events.get(session_id, {}):
                self._wrong(session_id, f"Its events came back as {told.events}.")

    async def _not_rebuilt(self) -> list[str]:
        async with self._world.redis() as client:
            return [] if await client.exists(f"{PREFIX}:mark") else ["no mark"]

    def _count(self) -> None:
        self._verdict.states = Counter(session["state"] for session in self._sessions.values())
        waits = [told.longest_wait for told in self._ledger.sessions.values()]
        self._verdict.figures |= {
            "sessions": len(self._sessions),
            "longest completion in seconds": round(max(waits, default=0.0), 1),
            "MB sent": round(self._ledger.sent_bytes / 1e6, 1),
        }

    # How things are read.

    async def _read_sessions(self) -> None:
        await self._read_sidecars()
        found: dict[str, dict[str, Any]] = {}

        async def read(session_id: str) -> None:
            document = await self._call("GET", f"/uploads/{session_id}")
            if document is not None:
                found[session_id] = document

        await self._each(read, {*self._sidecars, *self._known_ids()})
        self._sessions = found

    def _known_ids(self) -> set[str]:
        return {i for i, told in self._ledger.sessions.items() if told.name}

    async def _read_sidecars(self) -> None:
        def read(key: str) -> None:
            answer = self._world.oracle.get_object(BUCKET, key)
            with closing(answer):
                self._sidecars[key.removeprefix(SIDECARS)] = orjson.loads(answer.read())["session"]
                answer.release_conn()

        keys = await asyncio.to_thread(self._list_keys, SIDECARS)
        await self._each(lambda key: asyncio.to_thread(read, key), keys)

    async def _call(self, method: str, path: str) -> Any:
        url = self._world.gateways[0].url + path
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for _ in range(5):
            async with self._http.request(method, url, headers=headers) as answer:
                text = await answer.read()
                if answer.ok:
                    return orjson.loads(text or b"null")
                if answer.status != 503:
                    break
            await asyncio.sleep(0.5)
        self._wrong(path, f"{method} was answered {answer.status}: {text.decode()[:300]}")
        return None

    def _list_uploads(self) -> list[tuple[str, str]]:
        found, truncated, key_marker, id_marker = [], True, None, None
        while truncated:
            page = self._world.oracle._list_multipart_uploads(
                BUCKET, prefix="uploads/", key_marker=key_marker, upload_id_marker=id_marker
            )
            found += [(item.object_name.split("/")[1], item.upload_id) for item in page.uploads]
            truncated = page.is_truncated
            key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker
        return found

    def _list_keys(self, prefix: str) -> list[str]:
        found = self._world.oracle.list_objects(BUCKET, prefix=prefix, recursive=True)
        return [item.object_name or "" for item in found]

    async def _each(self, do: Callable[[str], Any], names: Iterable[str] | None = None) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> None:
            async with slots:
                await do(name)

        await asyncio.gather(*(one(n) for n in (self._sessions if names is None else names)))

    def _state(self, session_id: str) -> str | None:
        record = self._sidecars.get(session_id)
        return str(record["state"]) if record else None

    def _told(self, session_id: str) -> Told:
        return self._ledger.sessions.get(session_id) or Told("")

    def _wrong(self, about: str, message: str) -> None:
        self._verdict.wrongs.append(f"{about}: {message}")


async def _due(client: Any) -> set[str]:
    return {member.decode() for member in await client.zrange(f"{PREFIX}:due", 0, -1)}
