"""The names of everything that is kept in Redis.

The keys of one session share the hash tag `{<session_id>}`, and so one slot of a Redis Cluster:

    session    hash: record (JSON), version, state, saved_by, bytes, count, revision, verified; of a
               file in chunks also chunk_count, chunk_size, last_chunk_size, staged,
               staged_revision, chunks_known
    parts      hash: part number -> part (JSON)
    received   bitmap of the numbers in `parts`; part 1 is bit 0
    in_flight  hash: part number -> bytes on the way, as a client claims; gone after a minute
    replace    set of part numbers whose bytes may be replaced, once each
    outbox     list of events (JSON), oldest first
    chunks     hash: chunk index -> size, checksum, token of its attempt, with spaces between
    chunk_bits bitmap of the indexes in `chunks`
    assembled  bitmap of the parts that chunks were written into; part 1 is bit 0
    lease      string: the token of whoever holds the lease on the session

Indexes over sessions lie in other slots, and never decide anything. Those of a queue share one:

    due        sorted set: event id -> when it is to be looked at (ms)
    since      sorted set: event id -> when it came into the queue (ms)
    letters    hash: event id -> letter (JSON), waiting or dead
    dead       sorted set: event id -> when it was given up (ms)
"""

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds key names under one prefix, such as `gw`."""

    prefix: str

    def session(self, session_id: str) -> str:
        """Return the key of the record and its figures."""
        return f"{self.prefix}:{{{session_id}}}:session"

    def parts(self, session_id: str) -> str:
        """Return the key of the recorded parts."""
        return f"{self.prefix}:{{{session_id}}}:parts"

    def replace(self, session_id: str) -> str:
        """Return the key of the parts that may be replaced."""
        return f"{self.prefix}:{{{session_id}}}:replace"

    def outbox(self, session_id: str) -> str:
        """Return the key of the events."""
        return f"{self.prefix}:{{{session_id}}}:outbox"

    def lease(self, name: str) -> str:
        """Return the key of a lease; one named after a session shares its slot."""
        return f"{self.prefix}:{{{name}}}:lease"

    def progress(self, session_id: str) -> list[str]:
        """Return session, received and in_flight: what the live figures are made of."""
        start = f"{self.prefix}:{{{session_id}}}:"
        return [start + "session", start + "received", start + "in_flight"]

    def all(self, session_id: str) -> list[str]:
        """Return every key of a session but the lease, in the order that the scripts expect."""
        start = f"{self.prefix}:{{{session_id}}}:"
        names = ("session", "parts", "received", "in_flight", "replace", "outbox")
        chunked = ("chunks", "chunk_bits", "assembled")
        return [start + name for name in (*names, *chunked)]

    def chunks(self, session_id: str) -> list[str]:
        """Return session, chunks, chunk_bits and assembled: what is known of chunks."""
        start = f"{self.prefix}:{{{session_id}}}:"
        return [start + name for name in ("session", "chunks", "chunk_bits", "assembled")]

    def status(self, session_id: str) -> list[str]:
        """Return `progress`, chunk_bits and assembled: all that a status is made of."""
        return [*self.progress(session_id), *self.chunks(session_id)[2:]]

    def owner(self, owner: str) -> str:
        """Return the index of one owner's sessions; hashed, because an owner may be any text."""
        return f"{self.prefix}:owner:{_digest(owner)}"

    def fingerprint(self, owner: str, fingerprint: str) -> str:
        """Return the index of one owner's sessions of one file."""
        return f"{self.prefix}:fingerprint:{_digest(owner, fingerprint)}"

    @property
    def due(self) -> str:
        """The sorted set of session ids by the time (ms) at which they want attention."""
        return f"{self.prefix}:due"

    def queue(self, name: str) -> list[str]:
        """Return due, since, letters and dead of a queue of events."""
        start = f"{self.prefix}:{{queue:{name}}}:"
        return [start + "due", start + "since", start + "letters", start + "dead"]

    @property
    def staged(self) -> list[str]:
        """The hash of staged bytes by session, and the string that is their sum; in one slot."""
        return [f"{self.prefix}:{{staged}}:sessions", f"{self.prefix}:{{staged}}:sum"]

    @property
    def events(self) -> str:
        """The stream of what was handed on."""
        return f"{self.prefix}:events"

    @property
    def endpoints(self) -> str:
        """The hash of webhooks: id -> what people know it by."""
        return f"{self.prefix}:webhooks"

    @property
    def mark(self) -> str:
        """The string that is there while this Redis has not been emptied since it was filled."""
        return f"{self.prefix}:mark"


def _digest(*texts: str) -> str:
    # The lengths keep ("ab", "c") and ("a", "bc") apart.
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return sha256(b"".join(b"%d:%b" % (len(one), one) for one in encoded)).hexdigest()[:40]
