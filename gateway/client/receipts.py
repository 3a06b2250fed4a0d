"""What came of a transfer that went well; one that did not raises an error instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.checksums import Checksum


@dataclass(frozen=True, slots=True)
class UploadReceipt:
    """What came of an upload.

    `state` is completed, and `verified_by` says on whose word: `client_parts`, `client_file`,
    `gateway` or `store`. `size` is in bytes; `parts_sent` and `bytes_sent` count what the store took
    in this run, `bytes_relayed` those of them that went through the gateway; `relayed` is whether
    the run ended that way. `seconds` is its duration, `checksum` that of the whole file as computed
    here, `object` what the gateway says of the stored one, as it came.
    """

    session_id: str
    state: str
    verified_by: str | None
    size: int
    parts: int
    parts_sent: int
    bytes_sent: int
    relayed: bool
    bytes_relayed: int
    seconds: float
    checksum: Checksum | None
    object: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the receipt ready for JSON; the checksum is {"algorithm", "value"}."""
        return {
            "session_id": self.session_id,
            "state": self.state,
            "verified_by": self.verified_by,
            "size": self.size,
            "parts": self.parts,
            "parts_sent": self.parts_sent,
            "bytes_sent": self.bytes_sent,
            "relayed": self.relayed,
            "bytes_relayed": self.bytes_relayed,
            "seconds": round(self.seconds, 3),
            "checksum": _as_json(self.checksum),
            "object": self.object,
        }


@dataclass(frozen=True, slots=True)
class DownloadReceipt:
    """What came of a download; sizes are in bytes, and `bytes_received` counts this run's.

    `bytes_relayed` of these came through the gateway; `relayed` is whether the last ones did.
    `path` is None where the bytes went into a stream. `checksum` is what they were verified by,
    None where the session has none to compare with: then only the size is known to be right.
    """

    session_id: str
    path: Path | None
    size: int
    bytes_received: int
    relayed: bool
    bytes_relayed: int
    seconds: float
    checksum: Checksum | None

    def as_json(self) -> dict[str, Any]:
        """Return the receipt ready for JSON; the checksum is {"algorithm", "value"}."""
        return {
            "session_id": self.session_id,
            "path": None if self.path is None else str(self.path),
            "size": self.size,
            "bytes_received": self.bytes_received,
            "relayed": self.relayed,
            "bytes_relayed": self.bytes_relayed,
            "seconds": round(self.seconds, 3),
            "checksum": _as_json(self.checksum),
        }


def _as_json(checksum: Checksum | None) -> dict[str, str] | None:
    if checksum is None:
        return None
    return {"algorithm": checksum.algorithm, "value": checksum.value}
