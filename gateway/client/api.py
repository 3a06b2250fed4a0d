"""The native API, one method a verb. It repeats what may be repeated, and nothing else.

Every verb is safe to send again: creation by its idempotency key, the others by what they mean.
So a call that fails for a passing reason (no connection, 5xx, 429) is made again with jittered
waits, honouring Retry-After, for at most `retry_for` seconds. Errors are those of
`gateway.errors`, built from the problem JSON. Bytes of files never pass through here.

The module is longer than others: all verbs share the one way in which a call is repeated.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Self, TypedDict
from uuid import uuid4

import aiohttp
import orjson
import stamina
from yarl import URL

from gateway.client.clock import ServerClock
from gateway.client.events import ServerEvent, read_events
from gateway.client.following import follow
from gateway.client.model import (
    Content,
    Session,
    SignedPart,
    StoredPart,
    read_content,
    read_session,
    read_signed_part,
    read_stored_part,
    unexpected_answer,
)
from gateway.client.problems import NETWORK_ERRORS, error_from, retry_after, unreachable
from gateway.client.proxies import proxy_arguments
from gateway.core.checksums import Checksum
from gateway.errors import (
    Conflict,
    GatewayError,
    Internal,
    InvalidRequest,
    SessionNotFound,
)

SIGN_LIMIT: Final = 1000
ACKNOWLEDGE_LIMIT: Final = 1000
PARTS_PAGE: Final = 10_000
_MAX_PAGES: Final = 1000
_LARGE_BODY: Final = 1 << 20
_NEWS_TIMEOUT: Final = 5.0
_INTERNAL_ATTEMPTS: Final = 4
_log = logging.getLogger(__name__)
_SESSION_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


class PartToSign(TypedDict, total=False):
    """One entry of a sign call, as the wire has it: `part_number`, from 1, is required.

    `checksum` is the part's, in base64 and the session's algorithm; the store then refuses other
    bytes. `size` is needed for the last part of a session whose size is unknown. `replace` says
    that other bytes may take the place of a part that is stored.
    """

    part_number: int
    checksum: str
    size: int
    replace: bool


class PartToAcknowledge(TypedDict, total=False):
    """One entry of an acknowledge or complete call, as the wire has it.

    `part_number` and `etag`, as the store answered the PUT, are required; `checksum`, in base64 and
    the session's algorithm, is what the object will be verified by.
    """

    part_number: int
    etag: str
    checksum: str


class GatewayClient:
    """A connection to one gateway, to be used as an async context manager.

    `server` is an http or https address, with a path where a proxy adds one. `retry_for` and
    `request_timeout` are in seconds; the first bounds all attempts of a call, the second each one.

    Any call raises InvalidRequest for arguments that the gateway does not take, Unauthenticated and
    Forbidden for a token that does not do, RateLimited and Unavailable (`unreachable`) when
    `retry_for` is over, and Internal (`unexpected_answer`) for an answer that is no gateway's. Those
    about a session raise NotFound for one that is unknown or another's.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        retry_for: float = 30.0,
        request_timeout: float = 30.0,
    ) -> None:
        self.server = _server_address(server)
        self.clock = ServerClock()
        self._base = URL(self.server)
        self._token = token
        self._retry_for = retry_for
        self._timeout = request_timeout
        self._http: aiohttp.ClientSession | None = None
        self._troubled = False

    @property
    def headers(self) -> dict[str, str]:
        """What every request to the gateway carries, the token among it."""
        headers = {"Accept": "application/json", "User-Agent": "multipart-gateway-client"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            headers=self.headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def create(
        self,
        filename: str,
        size: int | None,
        *,
        content_type: str | None = None,
        part_size: int | None = None,
        bucket: str | None = None,
        key: str | None = None,
        checksum_algorithm: str | None = None,
        checksum: Checksum | None = None,
        metadata: Mapping[str, str] | None = None,
        fingerprint: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Create a session for a file of `size` bytes; None says that it is told at the end.

        `part_size` is in bytes, by default the gateway's choice; `checksum` is the whole file's,
        `metadata` up to 2 KB in all, `fingerprint` whatever finds the session again by `find`.
        Without an idempotency key one is made, so that retries are safe. Raises TooLarge
        (`file_too_large`), and InvalidRequest (`idempotency_mismatch`) for a key that was used for
        another file.
        """
        optional: dict[str, Any] = {
            "content_type": content_type,
            "part_size": part_size,
            "bucket": bucket,
            "key": key,
            "checksum_algorithm": checksum_algorithm,
            "checksum": checksum and {"algorithm": checksum.algorithm, "value": checksum.value},
            "metadata": dict(metadata) if metadata else None,
            "fingerprint": fingerprint,
        }
        body: dict[str, Any] = {"filename": filename, "size": size}
        body |= {name: value for name, value in optional.items() if value is not None}
        answer = await self._call(
            "POST",
            "uploads",
            body,
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
            # Another attempt of the same creation may still be under way over there.
            retry_conflicts=True,
        )
        return read_session(answer.data)

    async def get(self, session_id: str) -> Session:
        """Return the session as it stands now. Raises NotFound."""
        return read_session((await self._call("GET", upload_path(session_id))).data)

    async def find(
        self, *, fingerprint: str | None = None, states: Sequence[str] = (), page_size: int = 50
    ) -> AsyncGenerator[Session, None]:
        """Yield the caller's sessions, newest first, page after page of `page_size` (to 200).

        `states` are words such as open or completed; none means all.
        """
        query = {"limit": str(page_size)}
        if fingerprint is not None:
            query["fingerprint"] = fingerprint
        if states:
            query["state"] = ",".join(states)
        for _ in range(_MAX_PAGES):
            data = (await self._call("GET", "uploads", query=query)).data
            for entry in _list(data, "uploads"):
                yield read_session(entry)
            cursor = data.get("next_cursor")
            if not cursor:
                return
            query["cursor"] = str(cursor)

    async def sign(self, session_id: str, parts: Sequence[PartToSign]) -> list[SignedPart]:
        """Return a presigned PUT for each part, and take the server's time from the answer.

        Any number of parts may be asked for, and any number of times. Raises Conflict
        `part_conflict` (details `parts`) where a part is known with another checksum and `replace`
        is not set, `session_not_open` (details `state`), and Gone for an aborted or expired session.
        """
        signed: list[SignedPart] = []
        for start in range(0, len(parts), SIGN_LIMIT):
            body = {"parts": parts[start : start + SIGN_LIMIT]}
            data = (await self._call("POST", f"{upload_path(session_id)}/parts/sign", body)).data
            signed += [read_signed_part(entry) for entry in _list(data, "parts")]
            self._take_time(data)
        return signed

    async def acknowledge(self, session_id: str, parts: Sequence[PartToAcknowledge]) -> None:
        """Record parts that the store has taken.

        They go in calls of 1,000. Raises Conflict `part_conflict` (details `parts`) for other bytes
        than are recorded, and then none of that call is, `session_not_open`, and Gone.
        """
        for start in range(0, len(parts), ACKNOWLEDGE_LIMIT):
            body = {"parts": parts[start : start + ACKNOWLEDGE_LIMIT]}
            await self._call("POST", f"{upload_path(session_id)}/parts", body)

    async def parts(self, session_id: str) -> dict[int, StoredPart]:
        """Return all parts that the store holds, by part number, with sizes in bytes."""
        found: dict[int, StoredPart] = {}
        query = {"limit": str(PARTS_PAGE)}
        for _ in range(_MAX_PAGES):
            data = (await self._call("GET", f"{upload_path(session_id)}/parts", query=query)).data
            entries = _list(data, "parts")
            for start in range(0, len(entries), 1000):
                for part in map(read_stored_part, entries[start : start + 1000]):
                    found[part.part_number] = part
                # A page of 10,000 would hold up the event loop for some 30 ms at once.
                await asyncio.sleep(0)
            if data.get("next_cursor") is None:
                break
            query["cursor"] = str(data["next_cursor"])
        return found

    async def progress(self, session_id: str, in_flight: Mapping[int, int]) -> None:
        """Tell how many bytes of each part number are on their way, for those who watch.

        It is tried once, since it is only news, and forgotten by the gateway after a minute.
        """
        body = {"in_flight": {str(number): count for number, count in in_flight.items()}}
        await self._attempt(
            "POST", f"{upload_path(session_id)}/progress", body, limit=_NEWS_TIMEOUT
        )

    async def complete(
        self,
        session_id: str,
        *,
        parts: Sequence[PartToAcknowledge] = (),
        size: int | None = None,
        checksum: Checksum | None = None,
        wait: float = 10.0,
    ) -> tuple[Session, float | None]:
        """Ask for completion; return the session, and when to look again unless it is settled.

        The gateway answers after at most `wait` seconds, 0 to 60. The second value is seconds, None
        for a session that is completed. `parts` are acknowledged first, `size` (bytes) is needed
        where it was unknown, `checksum` is the whole file's. Any number of times. Raises Conflict
        (`parts_missing` with ranges such as 3-17,20 in the details `missing`, `wrong_size` and
        `changed`; `key_taken`), InvalidRequest (`size_required`, `size_mismatch`), Corrupt and
        Gone.
        """
        body: dict[str, Any] = {"parts": list(parts)} if parts else {}
        if size is not None:
            body["size"] = size
        if checksum is not None:
            body["checksum"] = {"algorithm": checksum.algorithm, "value": checksum.value}
        answer = await self._call(
            "POST",
            f"{upload_path(session_id)}/complete",
            body,
            query={"wait": f"{wait:g}"},
            limit=self._timeout + wait,
        )
        again = None if answer.status == HTTPStatus.OK else answer.retry_after or 1.0
        return read_session(answer.data), again

    async def abort(self, session_id: str) -> None:
        """Abort the session and delete its parts; a second time is a success too.

        Raises Conflict (`session_completed`, `session_busy`) when it is completed, or about to be.
        """
        await self._call("DELETE", upload_path(session_id))

    async def content(self, session_id: str) -> Content:
        """Return where the completed object can be read, for some minutes.

        Raises Conflict (`not_completed`, `quarantined`) and Gone. `Downloader` does the rest.
        """
        answer = await self._call("GET", f"{upload_path(session_id)}/content")
        self._take_time(answer.data)
        return read_content(answer.data)

    async def version(self) -> dict[str, Any]:
        """Return the gateway's name, version, time and what its store can do."""
        data = (await self._call("GET", "version")).data
        self._take_time(data)
        if not isinstance(data, dict):
            raise unexpected_answer("no version")
        return data

    async def events(
        self, session_id: str, *, last_event_id: str | None = None
    ) -> AsyncGenerator[ServerEvent, None]:
        """Yield `status`, `progress` and `end` events until the stream ends or breaks.

        It is one connection: a caller that wants to follow on calls again with the last id, or uses
        `follow`. Raises Unavailable (`unreachable`) when the connection breaks.
        """
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        url = self._url(f"{upload_path(session_id)}/events")
        # The server pings every 15 seconds; three missed pings mean that it is gone.
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=45)
        try:
            async with self._open().get(
                url,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                **proxy_arguments(url),
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise error_from(response.status, response.headers, await response.read())
                async for event in read_events(response.content):
                    yield event
        except NETWORK_ERRORS as error:
            raise unreachable("The gateway", error) from error

    def follow(self, session_id: str) -> AsyncGenerator[Session, None]:
        """Yield the session now and after every change, until it is settled.

        Connections that break are opened again. Raises as `get` does.
        """
        return follow(self, session_id)

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float | None = None,
        retry_conflicts: bool = False,
    ) -> "_Answer":
        failures = 0

        def wait_before_retry(error: Exception) -> bool | float:
            nonlocal failures
            failures += 1
            if not isinstance(error, GatewayError) or not error.retryable:
                return False
            if isinstance(error, Conflict) and not retry_conflicts:
                return False
            # A mistake of the server's own seldom goes away; it does when one process is unwell.
            if isinstance(error, Internal) and failures >= _INTERNAL_ATTEMPTS:
                return False
            if not self._troubled:
                self._troubled = True
                _log.warning("%s Trying on for %.0f s.", error.message, self._retry_for)
            return True if error.retry_after is None else error.retry_after

        async for attempt in stamina.retry_context(
            on=wait_before_retry,
            attempts=None,
            timeout=self._retry_for,
            wait_initial=0.2,
            wait_max=10.0,
            wait_jitter=1.0,
        ):
            with attempt:
                answer = await self._attempt(
                    method, path, body, query=query, headers=headers, limit=limit
                )
                if self._troubled:
                    self._troubled = False
                    _log.warning("The gateway answers again.")
                return answer
        raise AssertionError("stamina either returns or raises")

    async def _attempt(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float | None = None,
    ) -> "_Answer":
        url = self._url(path)
        if query:
            url = url.with_query(query)
        sent = dict(headers or {})
        data: bytes | BytesIO | None = None
        if body is not None:
            # 10,000 parts take orjson about 2 ms. aiohttp wants large bodies to be files.
            text = orjson.dumps(body)
            data = text if len(text) <= _LARGE_BODY else BytesIO(text)
            sent["Content-Type"] = "application/json"
        limits = aiohttp.ClientTimeout(total=limit or self._timeout, connect=10)
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers=sent,
                timeout=limits,
                allow_redirects=False,
                **proxy_arguments(url),
            ) as response:
                text = await response.read()
                status, answered = response.status, response.headers
        except NETWORK_ERRORS as error:
            raise unreachable("The gateway", error) from error
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_from(status, answered, text)
        return _Answer(status, text, retry_after(answered))

    async def reaches_store(self, session_id: str) -> bool:
        """Tell whether the gateway reaches the store just now; one attempt, of a few seconds.

        Listing an open session's parts makes it look into the store.
        """
        path = f"{upload_path(session_id)}/parts"
        try:
            await self._attempt("GET", path, query={"limit": "1"}, limit=_NEWS_TIMEOUT)
        except GatewayError:
            return False
        return True

    def _open(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("Use GatewayClient as an async context manager.")
        return self._http

    def _url(self, path: str) -> URL:
        return self._base / path

    def _take_time(self, data: Any) -> None:
        told = data.get("server_time") if isinstance(data, dict) else None
        if isinstance(told, str):
            try:
                self.clock.set(datetime.fromisoformat(told))
            except ValueError as error:
                raise unexpected_answer("no readable time") from error


class _Answer:
    __slots__ = ("_text", "retry_after", "status")

    def __init__(self, status: int, text: bytes, retry_after: float | None) -> None:
        self.status = status
        self.retry_after = retry_after
        self._text = text

    @property
    def data(self) -> Any:
        try:
            return orjson.loads(self._text)
        except orjson.JSONDecodeError as error:
            raise unexpected_answer("no JSON") from error


def _server_address(server: str) -> str:
    try:
        url = URL(server.strip())
        usable = url.scheme in {"http", "https"} and bool(url.host) and url.user is None
    except ValueError:
        usable = False
        url = URL()
    if not usable:
        raise InvalidRequest(
            "The server address is not one.",
            code="invalid_server",
            hint="Give something like http://127.0.0.1:8000 or https://uploads.example.org.",
        )
    return str(url.with_query(None).with_fragment(None)).rstrip("/")


def upload_path(session_id: str) -> str:
    """Return where a session is below the server's address. Raises NotFound for no session id."""
    # An id with slashes or dots in it would make another path of the URL.
    if not _SESSION_ID.fullmatch(session_id):
        raise SessionNotFound
    return f"uploads/{session_id}"


def _list(data: Any, name: str) -> list[Any]:
    entries = data.get(name) if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise unexpected_answer(f"no list of {name}")
    return entries
