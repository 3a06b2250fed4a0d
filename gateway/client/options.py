"""How to transfer: what a caller may choose, checked where it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from gateway.client.route import RelayChoice
from gateway.errors import InvalidRequest

MAX_PARALLEL: Final = 64
"""More connections than this only wait for one another, and for the store's limits."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How to upload. Sizes are in bytes, times in seconds.

    `parallel` parts, 1 to 64, are sent at a time, each of `part_size` bytes (None: the gateway
    chooses). `metadata` is kept with the session, `content_type` with the object; by default it is
    what the name suggests. `give_up_after` is how long nothing at all may go well with the store;
    the gateway is tried for as long as the client's `retry_for` says. `stall_timeout` is how long
    one connection may stand still, `connect_timeout` how long one may take to be made. `relay` is
    whether parts go through the gateway: auto when the store cannot be reached from here though the
    gateway reaches it, always, or never. `state_dir` is where journals lie (None: GW_STATE_DIR, else
    `gateway` in the user's state directory), `spool_dir` where parts of a stream lie until they are
    stored (None: TMPDIR, else /var/tmp, else the system's choice).

    Raises InvalidRequest for a `parallel` outside its bounds, and any other word for `relay`.
    """

    parallel: int = 4
    part_size: int | None = None
    metadata: Mapping[str, str] | None = None
    content_type: str | None = None
    give_up_after: float = 300.0
    stall_timeout: float = 60.0
    connect_timeout: float = 10.0
    relay: RelayChoice = "auto"
    state_dir: Path | None = None
    spool_dir: Path | None = None

    def __post_init__(self) -> None:
        _check_parallel(self.parallel)
        _check_relay(self.relay)


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How to download: `parallel` ranges at a time, times and `relay` as in `UploadOptions`.

    `force` replaces a file that exists. Raises InvalidRequest as `UploadOptions` does.
    """

    parallel: int = 4
    give_up_after: float = 300.0
    stall_timeout: float = 60.0
    connect_timeout: float = 10.0
    relay: RelayChoice = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        _check_parallel(self.parallel)
        _check_relay(self.relay)


def _check_parallel(parallel: int) -> None:
    if not 1 <= parallel <= MAX_PARALLEL:
        raise InvalidRequest(
            f"parallel must lie between 1 and {MAX_PARALLEL}.",
            hint="4 suits most lines; more helps on fast ones with long delays.",
        )


def _check_relay(relay: str) -> None:
    words = get_args(RelayChoice)
    if relay not in words:
        raise InvalidRequest(
            f"relay must be one of {', '.join(words)}.",
            hint="auto relays only where the store cannot be reached.",
        )
