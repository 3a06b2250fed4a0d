"""The native API and the store as a raw client calls them: once each, bounded, and written down.

Nothing is retried and nothing is raised here: a call without an answer has the status None. What
no answer may ever be is judged at once: our own mistakes (500), and errors of another shape.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
import orjson
from faults.chaos.world import TOKEN, World
from yarl import URL

CALL_SECONDS = 7.0
PUT_SECONDS = 6.0
_STATES = {"open", "completing", "verifying", "completed", "corrupt", "aborted", "expired"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: no status where nothing did."""

    status: int | None
    document: Any = None

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status is not None and self.status < 300

    @property
    def code(self) -> str:
        """The code of the error, or nothing."""
        return str(self.document.get("code", "")) if isinstance(self.document, dict) else ""

    @property
    def details(self) -> Mapping[str, Any]:
        """The details of the error."""
        return self.document.get("details") or {} if isinstance(self.document, dict) else {}

    @property
    def session(self) -> dict[str, Any] | None:
        """The session in the answer, wherever it is."""
        if not isinstance(self.document, dict):
            return None
        for place in (self.document, self.document.get("session"), self.details.get("session")):
            if isinstance(place, dict) and place.get("state") in _STATES and "upload" not in place:
                return place if "session_id" in place else None
        return None


class Caller:
    """One client's connection to all gateways and to the store."""

    def __init__(self, world: World, http: aiohttp.ClientSession, name: str) -> None:
        self._world = world
        self._http = http
        self._name = name

    async def api(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        gateway: int,
        body: Any = None,
        key: str | None = None,
        session_id: str | None = None,
        seconds: float = CALL_SECONDS,
    ) -> Answer:
        """Call the API of one of the gateways; `key` is an Idempotency-Key."""
        history = self._world.history
        began = history.now
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._http.request(
                method,
                self._world.gateways[gateway].url + path,
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                text = await response.read()
                answer = self._judge(verb, response.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError):
            answer = Answer(None)
        found = answer.session
        history.note(
            "call",
            name=self._name,
            verb=verb,
            gateway=gateway,
            began=began,
            status=answer.status,
            code=answer.code,
            session_id=found["session_id"] if found else session_id,
            # Errors about a session name its state alone.
            state=found["state"] if found else answer.details.get("state"),
        )
        return answer

    async def put(
        self, session_id: str, signed: Mapping[str, Any], body: bytes, *, other: bool, bound: bool
    ) -> tuple[int | None, str]:
        """Send one part; return status and ETag, which is empty where there is none."""
        began = self._world.history.now
        status: int | None = None
        etag = ""
        try:
            async with self._http.put(
                URL(signed["url"], encoded=True),
                data=BytesIO(body) if body else b"",
                headers=signed["headers"],
                skip_auto_headers=("Content-Type",),
                timeout=aiohttp.ClientTimeout(total=PUT_SECONDS),
                allow_redirects=False,
            ) as response:
                await response.read()
                status = response.status
                etag = response.headers.get("ETag", "").strip('"') if status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        self._world.history.note(
            "put",
            name=self._name,
            session_id=session_id,
            part=signed["part_number"],
            began=began,
            status=status,
            etag=etag,
            size=len(body),
            other=other,
            bound=bound,
        )
        return status, etag

    async def read(self, session_id: str, *, gateway: int) -> bytes | None:
        """Read the object through the gateway's relay; None unless all of it came."""
        url = f"{self._world.gateways[gateway].url}/uploads/{session_id}/content?relay=1"
        try:
            async with self._http.get(
                url,
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=aiohttp.ClientTimeout(total=2 * CALL_SECONDS),
            ) as response:
                body = await response.read()
                return body if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    def _judge(self, verb: str, status: int, text: bytes) -> Answer:
        try:
            document = orjson.loads(text) if text else None
        except orjson.JSONDecodeError:
            document = None
            self._wrong(f"{verb} was answered {status} with something that is no JSON.")
        answer = Answer(status, document)
        if status >= 400 and not answer.code:
            self._wrong(f"{verb} was answered {status} without a code.")
        if status == 500:
            self._wrong(f"{verb} was answered {status} {answer.code}.", document=document)
        return answer

    def _wrong(self, message: str, **facts: Any) -> None:
        self._world.history.wrong(self._name, message, **facts)


async def pause(seconds: float) -> None:
    """Be a client that takes its time; its pauses are part of the schedule."""
    await asyncio.sleep(seconds)
