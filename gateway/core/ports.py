"""What the core asks of the world. A port's docstring is its contract.

Rules that hold for every method of every port:
- Foreign exceptions never come out: only errors of `gateway.errors`, with the cause chained.
- `Unavailable` means that nothing is known to have gone wrong but the call did not succeed within
  its deadline; every call has one. `Uncertain` means that it may have taken effect.
- Cancellation is safe: the caller may be cancelled at any await, and the port releases what it
  holds. Whether the remote effect took place is then unknown.
- Iterators follow pagination to the end, however many pages there are.
"""

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gateway.core.checksums import Checksum
from gateway.core.events import Event
from gateway.core.model import (
    MultipartUpload,
    Part,
    PartToSign,
    SignedPart,
    State,
    StorageLimits,
    StoredObject,
    UploadSession,
)


class Clock(Protocol):
    """Time, so that tests can inject it."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the present as an aware UTC datetime."""


class Presigner(Protocol):
    """Makes URLs that let a client act on one thing for a short time, without our credentials."""

    @abstractmethod
    async def sign_parts(
        self,
        upload: MultipartUpload,
        parts: Sequence[PartToSign],
        *,
        algorithm: str,
        expires_in: int,
    ) -> list[SignedPart]:
        """Sign one PUT a part, every `size` set, in the order given; no call to the store.

        Content-Length is bound always, the checksum (in `algorithm`) where one is given. The
        life in seconds is shortened to that of the credentials.
        """

    @abstractmethod
    async def sign_get(
        self, bucket: str, key: str, *, filename: str, content_type: str, expires_in: int
    ) -> str:
        """Sign one GET that downloads as `filename` with `content_type`."""


class Storage(Protocol):
    """A store, seen as multipart uploads.

    Idempotent are list_parts and abort. create is not: a lost reply leaves an orphan. No method
    but list_parts and abort retries inside; retrying is a decorator's or the caller's business.
    """

    limits: StorageLimits
    presigner: Presigner | None

    @abstractmethod
    async def create(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        algorithm: str,
    ) -> MultipartUpload:
        """Create a multipart upload whose object will carry the metadata (ASCII).

        `algorithm` is the checksum algorithm of its parts; where the store can, the whole-object
        checksum in that algorithm is kept too. Raises StorageFull, NotFound `bucket_not_found`,
        Unavailable.
        """

    @abstractmethod
    async def put_part(
        self,
        upload: MultipartUpload,
        number: int,
        body: AsyncIterator[bytes],
        *,
        size: int,
        algorithm: str,
        checksum: str | None = None,
    ) -> Part:
        """Stream exactly `size` bytes into a part, sent once; never more than a few blocks held.

        What the body raises comes out as it is, and then the store keeps nothing: the request is
        left short. `checksum`, in `algorithm`, is bound where given: the store refuses other bytes
        (Unavailable `part_damaged`, retryable). The part returned has the store's ETag, and as
        `checksum` what the store says that it computed, or None. A store that takes no bytes for a
        while raises Unavailable. Raises NoSuchUpload, StorageFull too.
        """

    @abstractmethod
    def list_parts(self, upload: MultipartUpload) -> AsyncGenerator[Part, None]:
        """Yield what the store has, in order of part number, `checksum` None.

        A number may come more than once where the store keeps several versions (SeaweedFS).
        Raises NoSuchUpload, which proves nothing (law 1).
        """

    @abstractmethod
    async def complete(
        self,
        upload: MultipartUpload,
        parts: Sequence[Part],
        *,
        algorithm: str,
        checksum: Checksum | None = None,
        if_none_match: bool = False,
    ) -> StoredObject:
        """Send CompleteMultipartUpload exactly once, with the ETags given.

        Returns only on an answer that names an ETag (law 3); the object's checksums and
        metadata may be empty in it. Raises Conflict `parts_refused` (or `checksum_refused`)
        where the store refuses the list and the upload still stands, Conflict `key_taken` on
        a failed condition, NoSuchUpload, StorageFull, Unavailable where the call
        certainly had no effect, and Uncertain for everything else.
        """

    @abstractmethod
    async def abort(self, upload: MultipartUpload) -> None:
        """Abort until ListParts finds nothing; an unknown upload is a success.

        Called by nobody but `sweeper.clear`, after the HEAD of law 2.
        """


class ObjectStore(Protocol):
    """The same store, seen as objects. All methods are idempotent and retried."""

    @abstractmethod
    async def head(self, bucket: str, key: str) -> StoredObject:
        """Describe an object with its checksums and metadata, or raise NoSuchObject."""

    @abstractmethod
    def read(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield bytes [start, stop) in blocks of at most 1 MiB; raises Unavailable when cut short.

        With `if_match` (an ETag) a changed object raises Conflict `object_changed`, so that bytes
        of two versions are never mixed. Closing the iterator releases the connection.
        """

    @abstractmethod
    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> None:
        """Store a small object; the same key again overwrites. Retried: it is idempotent."""

    @abstractmethod
    async def delete(self, bucket: str, key: str) -> None:
        """Delete; an unknown key is a success."""

    @abstractmethod
    def list(self, bucket: str, prefix: str) -> AsyncGenerator[StoredObject, None]:
        """Yield every object under the prefix in order of key, without checksums or metadata."""

    @abstractmethod
    def list_uploads(self, bucket: str, prefix: str) -> AsyncGenerator[MultipartUpload, None]:
        """Yield the unfinished multipart uploads whose keys have the prefix; retried.

        Never all there is to know: MinIO lists none but those of exactly this key
        (minio#20989).
        """


class PartOutcome(StrEnum):
    """What recording a part did."""

    STORED = "stored"  # new, or replaced on purpose
    SAME = "same"  # known already, counted once


@dataclass(frozen=True, slots=True)
class PartList:
    """The recorded parts in order of number; `revision` changes whenever any of them does."""

    revision: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions to find: one owner's, newest first; `cursor` is opaque."""

    owner: str
    states: frozenset[State] | None = None
    fingerprint: str | None = None
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions found, and the cursor of the next page or None at the end."""

    sessions: tuple[UploadSession, ...]
    cursor: str | None


class SessionStore(Protocol):
    """Remembers sessions. Every method is atomic; none is the truth (law 4).

    Calls that fail with Unavailable may have taken effect: add and save can be repeated, since
    add keeps what is there and save compares versions.
    """

    @abstractmethod
    async def announce(self, session_id: str, at: datetime) -> bool:
        """Make the id due at a time, before anything of its session is made anywhere.

        Should the creation die halfway, that is how its upload is found. Returns False where one
        was announced before and has not been looked after since. Raises Unavailable where there
        is no room for another session.
        """

    @abstractmethod
    async def add(
        self, session: UploadSession, event: Event | None = None, *, parts: Sequence[Part] = ()
    ) -> UploadSession:
        """Record a session in whatever state, with its parts and event, unless its id is known.

        Returns the recorded one. Parts come with a session that is restored from its sidecar.
        """

    @abstractmethod
    async def get(self, session_id: str) -> UploadSession:
        """Return the session with its live progress, in one round trip; raise SessionNotFound.

        A record that cannot be read raises Internal `record_unreadable`: only that session suffers.
        """

    @abstractmethod
    async def save(
        self,
        session: UploadSession,
        event: Event | None = None,
        *,
        parts_revision: int | None = None,
    ) -> UploadSession:
        """Record a change and its event in one step; `session.version` is the new version.

        Raises Conflict `session_changed` (retryable) unless the recorded version is the one
        before and, where given, the parts are still at that revision. A save that is repeated
        because its reply was lost therefore raises Conflict: read again, and see.
        """

    @abstractmethod
    async def add_parts(self, session_id: str, parts: Sequence[Part]) -> list[PartOutcome]:
        """Record parts of an open session, all or none; outcomes in the order given.

        A number already recorded with other bytes (another checksum, or without checksums another
        ETag) raises Conflict `part_conflict` with `details["parts"]`, unless a replacement was
        allowed; one with the same checksum takes the new ETag. Raises Conflict `session_not_open`
        when the list is frozen.
        """

    @abstractmethod
    async def allow_replace(self, session_id: str, numbers: Sequence[int]) -> None:
        """Let the next add_parts of these numbers replace other bytes, once.

        One that records a number anew uses it up, too.
        """

    @abstractmethod
    async def may_replace(self, session_id: str, number: int) -> bool:
        """Tell whether allow_replace was called for this number, and not used up yet."""

    @abstractmethod
    async def heal_parts(
        self, session_id: str, *, found: Sequence[Part], lost: Sequence[Part]
    ) -> None:
        """Bring the record of an open session in line with what the store lists.

        `found` are added where the number is unrecorded, and correct the size where number and
        ETag are recorded; `lost` are forgotten where number and ETag are still those. A frozen
        list stays as it is.
        """

    @abstractmethod
    async def parts(self, session_id: str, *, known: PartList | None = None) -> PartList:
        """Return all recorded parts; raise SessionNotFound, so that a loss is not taken for none.

        `known`, read a moment ago, is returned itself where its revision is still the recorded one:
        ten thousand parts take tens of milliseconds to read.
        """

    @abstractmethod
    async def parts_of(self, session_id: str, numbers: Sequence[int]) -> dict[int, Part]:
        """Return those recorded among the numbers."""

    @abstractmethod
    async def report_in_flight(self, session_id: str, in_flight: Mapping[int, int]) -> None:
        """Replace a client's claim of bytes on the way by part number; forgotten after 60 s."""

    @abstractmethod
    async def report_verified(self, session_id: str, verified_bytes: int) -> None:
        """Record how many bytes of the object were read back so far."""

    @abstractmethod
    async def find(self, query: SessionQuery) -> SessionPage:
        """Return one page; entries whose session is gone are passed over."""

    @abstractmethod
    async def due(self, now: datetime, limit: int) -> list[str]:
        """Return ids of sessions whose attention is due, the longest waiting first."""

    @abstractmethod
    async def schedule(self, session_id: str, at: datetime | None) -> None:
        """Move a session's attention to a time, or drop it for None."""

    @abstractmethod
    async def outbox(self, session_id: str) -> list[Event]:
        """Return the session's recorded events, oldest first."""

    @abstractmethod
    async def is_marked(self) -> bool:
        """Tell whether `mark` was called, and nothing can have been lost since."""

    @abstractmethod
    async def mark(self) -> None:
        """Note that the records are as complete as the sidecars in storage."""

    @abstractmethod
    async def ping(self) -> None:
        """Raise Unavailable unless the store answers."""


class Lease(Protocol):
    """A claim on work that others respect. It saves work; correctness never rests on it (law 5)."""

    @abstractmethod
    async def renew(self) -> bool:
        """Prolong by the full time; False when somebody else has it now."""

    @abstractmethod
    async def release(self) -> None:
        """Give it up; one that is lost already is left alone."""


class Leases(Protocol):
    """Hands out leases."""

    @abstractmethod
    async def acquire(self, name: str, *, seconds: float) -> Lease | None:
        """Return a lease on the name, or None while another holder has it. Never waits for it."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What storage remembers of a session, so that it survives the loss of Redis (law 4).

    `parts` is the frozen list with the client's checksums, or None while the session is open.
    """

    session: UploadSession
    parts: tuple[Part, ...] | None = None


class Sidecars(Protocol):
    """Keeps one small object a session under the gateway's own prefix."""

    @abstractmethod
    async def write(self, sidecar: Sidecar) -> None:
        """Store, overwriting what is there."""

    @abstractmethod
    async def read(self, session_id: str) -> Sidecar:
        """Return the sidecar, or raise SessionNotFound."""

    @abstractmethod
    def ids(self) -> AsyncGenerator[str, None]:
        """Yield every session id that has a sidecar."""
