"""The values everything speaks of. All are frozen, and validated where they are made.

Sizes are bytes, times are aware UTC datetimes, checksums are base64 as S3 writes them.

The module is longer than others: a session and all that it is made of are read together.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias

from gateway.core.checksums import PREFERENCE, Checksum
from gateway.core.chunks.layout import MAX_CHUNKS, ChunkLayout, format_gaps, unbroken
from gateway.core.plan import PartLimits, PartPlan, format_ranges, missing
from gateway.errors import InvalidRequest, SessionNotFound

MAX_FILENAME_BYTES = 1024
MAX_METADATA_BYTES = 2048
MAX_FINGERPRINT_BYTES = 255
MAX_FILE_ID_BYTES = 255
MAX_KEY_BYTES = 1024
MAX_KEY_SEGMENT_BYTES = 255
"""Stores that keep objects as files end here: MinIO by its rules, SeaweedFS never completes."""
DEFAULT_CONTENT_TYPE = "application/octet-stream"

# RFC 9110, section 8.3.1: type "/" subtype, then parameters of visible characters.
_CONTENT_TYPE = re.compile(
    r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}([ \t]*;[\x20-\x7e]{0,255})?", re.ASCII
)
# Also the capitals and underscores that old buckets have.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}", re.ASCII)
_SESSION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class State(StrEnum):
    """Where a session stands; `lifecycle.TRANSITIONS` says what leads where."""

    OPEN = "open"
    COMPLETING = "completing"
    VERIFYING = "verifying"
    COMPLETED = "completed"
    CORRUPT = "corrupt"
    REJECTED = "rejected"
    ABORTED = "aborted"
    EXPIRED = "expired"


class VerifiedBy(StrEnum):
    """Whose word the stored bytes were compared with (law 11)."""

    STORE = "store"
    GATEWAY = "gateway"  # what arrived here: no client said more about some relayed part
    CLIENT_PARTS = "client_parts"
    CLIENT_FILE = "client_file"


Phase: TypeAlias = Literal["uploading", "assembling", "completing", "verifying", "done"]

_PHASES: Mapping[State, Phase] = {
    State.OPEN: "uploading",
    State.COMPLETING: "completing",
    State.VERIFYING: "verifying",
}


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """What one store can do, as found by probing it; the plan obeys these.

    `part_checksums` are the algorithms it accepts and verifies on parts; `object_checksums`
    those it reports for a whole multipart object. `part_etag_is_md5` tells that the ETag of a
    part is the hex MD5 of its bytes, `object_etag_is_md5_of_md5s` that of an object is the
    well-known MD5 of the parts' MD5s with `-N`. `conditional_complete` tells that
    If-None-Match on CompleteMultipartUpload refuses to overwrite.
    """

    parts: PartLimits = field(default_factory=PartLimits)
    part_checksums: frozenset[str] = frozenset()
    object_checksums: frozenset[str] = frozenset()
    part_etag_is_md5: bool = False
    object_etag_is_md5_of_md5s: bool = False
    conditional_complete: bool = False


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """A multipart upload in a store. `upload_id` is the store's and means nothing to us."""

    bucket: str
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part: number from 1, size in bytes, the ETag verbatim but for its quotes.

    `checksum` is the client's word in the session's algorithm, or None where it gave none. `relayed`
    tells that it is the gateway's instead, of the bytes as they arrived from a client without one.
    """

    number: int
    size: int
    etag: str
    checksum: str | None = None
    relayed: bool = False


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it; `checksums` holds whole-object values only."""

    bucket: str
    key: str
    size: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A presigned PUT. `headers` must be sent as they are; a body of `size` bytes is signed too."""

    number: int
    url: str = field(repr=False)
    headers: Mapping[str, str]
    size: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A client's word that a part is stored: the ETag that the store gave it, and its checksum."""

    number: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class PartToSign:
    """What a client wants to send: `replace` says that other bytes may take a part's place."""

    number: int
    size: int | None = None
    checksum: str | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with a session, in the words of the error that said so."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How the file of an older client is cut: `total` chunks, of `size` bytes but for the last.

    `size` is None until a chunk that is not the last has been seen. With `completes_itself` the
    file is completed as soon as all chunks are there.
    """

    total: int
    size: int | None = None
    completes_itself: bool = False

    def __post_init__(self) -> None:
        if self.total < 1 or (self.size is not None and self.size < 1):
            raise ValueError("A file has at least one chunk, and a chunk at least one byte.")


@dataclass(frozen=True, slots=True)
class Progress:
    """The live figures of a session, which change without a new version.

    `received` is a bitmap of recorded parts, part 1 in the highest bit of the first byte.
    `in_flight_bytes` is a claim of the client's, `verified_bytes` what was read back so far.

    Of a session in chunks, `chunks` is the bitmap of those that are stored, and `assembled` that of
    the parts that they were written into; `staged_bytes` are on their way there. `chunk_size` and
    `last_chunk_size` are the sizes seen. `chunks_known` is False where Redis has lost all that, and
    storage has not been asked yet.
    """

    received_bytes: int = 0
    received_parts: int = 0
    received: bytes = b""
    in_flight_bytes: int = 0
    verified_bytes: int = 0
    received_chunks: int = 0
    chunks: bytes = b""
    assembled: bytes = b""
    staged_bytes: int = 0
    chunk_size: int | None = None
    last_chunk_size: int | None = None
    chunks_known: bool = False

    @property
    def unbroken_chunks(self) -> int:
        """The length of the run of stored chunks from chunk 0 on."""
        return unbroken(self.chunks)

    def numbers(self) -> list[int]:
        """Return the recorded part numbers in ascending order."""
        return [
            8 * index + bit + 1
            for index, byte in enumerate(self.received)
            if byte
            for bit in range(8)
            if byte & (0x80 >> bit)
        ]

    def has(self, number: int) -> bool:
        """Tell whether a part of this number is recorded."""
        index, bit = divmod(number - 1, 8)
        return index < len(self.received) and bool(self.received[index] & (0x80 >> bit))


@dataclass(frozen=True, slots=True)
class UploadSession:
    """One upload from creation to its end. `version` counts its saved changes, from 1."""

    session_id: str
    owner: str
    state: State
    version: int
    filename: str
    content_type: str
    size: int | None
    part_size: int
    checksum_algorithm: str
    upload: MultipartUpload
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    checksum: Checksum | None = None
    fingerprint: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_digest: str | None = None
    object: StoredObject | None = None
    verified_by: VerifiedBy | None = None
    error: Problem | None = None
    storage_cleared: bool = False
    chunks: ChunkPlan | None = None
    progress: Progress = field(default_factory=Progress, compare=False)

    @property
    def plan(self) -> PartPlan:
        """The part plan that this session was created with."""
        return PartPlan(self.size, self.part_size)

    @property
    def missing(self) -> str | None:
        """The part numbers still to come as ranges, `3-17,20`; None while the size is unknown."""
        plan = self.plan
        if plan.part_count is None:
            return None
        if self.progress.received_parts >= plan.part_count:
            return ""
        return format_ranges(missing(plan, self.progress.numbers()))

    @property
    def layout(self) -> ChunkLayout | None:
        """Which chunks make up which part; None without chunks, or until their size is known."""
        if self.chunks is None or self.chunks.size is None:
            return None
        return ChunkLayout(self.chunks.total, self.chunks.size, self.part_size // self.chunks.size)

    @property
    def missing_chunks(self) -> str:
        """The chunks still to come as ranges from 0, `3-17,20`; the first 1,000 ranges."""
        if self.chunks is None or self.progress.received_chunks >= self.chunks.total:
            return ""
        return format_gaps(self.progress.chunks, self.chunks.total)

    @property
    def has_all_chunks(self) -> bool:
        """Whether nothing is awaited of a client that sends chunks."""
        return self.chunks is not None and (
            self.state not in {State.OPEN, State.ABORTED, State.EXPIRED}
            or self.progress.received_chunks >= self.chunks.total
        )

    @property
    def phase(self) -> Phase:
        """What is going on, in the word that clients show: uploading ... done."""
        if self.state is State.OPEN and self.has_all_chunks:
            return "assembling"
        return _PHASES.get(self.state, "done")

    @property
    def fraction(self) -> float | None:
        """How far the phase is, 0 to 1: bytes received, or read back while verifying.

        Of a file in chunks these are the chunks received, and then the bytes written into parts.
        """
        if self.state is State.COMPLETED:
            return 1.0
        if self.chunks is not None and self.phase == "uploading":
            return self.progress.received_chunks / self.chunks.total
        if self.size is None:
            return None
        done = (
            self.progress.verified_bytes
            if self.state is State.VERIFYING
            else self.progress.received_bytes
        )
        return min(1.0, done / self.size) if self.size else 1.0


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A request for a session, with everything that can be checked without a store checked."""

    filename: str
    size: int | None = None
    content_type: str = DEFAULT_CONTENT_TYPE
    part_size: int | None = None
    bucket: str | None = None
    key: str | None = None
    checksum_algorithm: str | None = None
    checksum: Checksum | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fingerprint: str | None = None
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        _check_filename(self.filename)
        _check_metadata(self.metadata)
        _check_content_type(self.content_type)
        if self.key is not None:
            check_key(self.key)
        if self.bucket is not None and not _BUCKET.fullmatch(self.bucket):
            raise InvalidRequest(
                "bucket is not the name of a bucket.",
                code="invalid_bucket",
                hint="Send 3 to 63 letters, digits, dots and hyphens, or leave it out.",
            )
        if self.fingerprint is not None:
            _check_text("fingerprint", self.fingerprint, MAX_FINGERPRINT_BYTES)
        if self.idempotency_key is not None and not (
            1 <= len(self.idempotency_key) <= MAX_FINGERPRINT_BYTES
            and self.idempotency_key.isascii()
            and self.idempotency_key.isprintable()
        ):
            raise InvalidRequest(
                "Idempotency-Key must be 1 to 255 printable ASCII characters.",
                code="invalid_idempotency_key",
                hint="A random UUID made once per file is a good key.",
            )
        if self.checksum_algorithm is not None and self.checksum_algorithm not in PREFERENCE:
            raise InvalidRequest(
                f"checksum_algorithm must be one of {', '.join(PREFERENCE)}.",
                code="unknown_checksum_algorithm",
                hint="Leave it out to get the best that the store supports.",
            )


@dataclass(frozen=True, slots=True)
class ChunkedFile:
    """What an older client says of its file with every chunk.

    `form` names the wire (`a`, `b`); a `file_id`, 1 to 255 bytes chosen by the client, is unique
    per principal and form. Raises InvalidRequest (`invalid_file_id`, `invalid_filename`,
    `invalid_content_type`, `total_chunks_out_of_range`).
    """

    form: str
    file_id: str
    total_chunks: int
    filename: str
    content_type: str = DEFAULT_CONTENT_TYPE
    completes_itself: bool = False

    def __post_init__(self) -> None:
        _check_text("file_id", self.file_id, MAX_FILE_ID_BYTES)
        _check_filename(self.filename)
        _check_content_type(self.content_type)
        if not 1 <= self.total_chunks <= MAX_CHUNKS:
            raise InvalidRequest(
                f"total_chunks must lie between 1 and {MAX_CHUNKS}.",
                code="total_chunks_out_of_range",
                hint="Send larger chunks of a file that would have more.",
            )

    def check_index(self, index: int) -> None:
        """Raise InvalidRequest (`chunk_index_out_of_range`) unless the file has such a chunk."""
        if not 0 <= index < self.total_chunks:
            raise InvalidRequest(
                "The file has no such chunk.",
                code="chunk_index_out_of_range",
                hint=f"Its chunks are numbered from 0 to {self.total_chunks - 1}.",
            )


def check_file_id(file_id: str) -> str:
    """Return the id, or raise SessionNotFound where it cannot be one of a file in chunks."""
    try:
        _check_text("file_id", file_id, MAX_FILE_ID_BYTES)
    except InvalidRequest as error:
        raise SessionNotFound from error
    return file_id


def check_session_id(session_id: str) -> str:
    """Return the id, or raise SessionNotFound where it cannot be one of ours."""
    if not _SESSION_ID.fullmatch(session_id):
        raise SessionNotFound
    return session_id


def check_key(key: str) -> str:
    """Return an object key that any store takes: 1 to 1,024 bytes, no control characters.

    Dot segments are refused because stores and proxies disagree about what they mean, also with
    the backslashes that some take for slashes.
    """
    _check_text("key", key, MAX_KEY_BYTES)
    segments = key.replace("\\", "/").split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        raise InvalidRequest(
            "key must not hold empty or dot segments.",
            code="invalid_key",
            hint="Use plain segments, such as projects/42/video.mp4.",
        )
    if any(len(segment.encode()) > MAX_KEY_SEGMENT_BYTES for segment in key.split("/")):
        raise InvalidRequest(
            f"A segment of key is longer than {MAX_KEY_SEGMENT_BYTES} bytes.",
            code="invalid_key",
            hint="Put slashes between, or shorten it.",
        )
    return key


def _check_text(name: str, value: str, limit: int) -> None:
    if not value or len(value.encode("utf-8", "replace")) > limit or _has_control(value):
        raise InvalidRequest(
            f"{name} must be 1 to {limit} bytes of UTF-8 without control characters.",
            code=f"invalid_{name}",
            hint=f"Shorten {name}, and remove line breaks and other control characters.",
        )


def _check_content_type(content_type: str) -> None:
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidRequest(
            "content_type is not a media type.",
            code="invalid_content_type",
            hint="Send something like video/mp4, or leave it out.",
        )


def _check_filename(filename: str) -> None:
    _check_text("filename", filename, MAX_FILENAME_BYTES)
    if "/" in filename or "\\" in filename or filename in {".", ".."}:
        raise InvalidRequest(
            "filename must be a name, not a path.",
            code="invalid_filename",
            hint="Send the last part of the path only, without slashes or backslashes.",
        )


def _check_metadata(metadata: Mapping[str, str]) -> None:
    size = sum(len(k.encode()) + len(v.encode("utf-8", "replace")) for k, v in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(
            f"metadata takes {size} bytes; {MAX_METADATA_BYTES} are allowed.",
            code="metadata_too_large",
            hint="Keep large descriptions in your own database under the session id.",
        )
    if any(_has_control(text) for pair in metadata.items() for text in pair):
        raise InvalidRequest(
            "metadata must not hold control characters.",
            code="invalid_metadata",
            hint="Remove line breaks and other control characters.",
        )


def _has_control(text: str) -> bool:
    # Cc: controls; Cs: lone surrogates, which have no UTF-8 form; Zl, Zp: line breaks.
    return any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text)
