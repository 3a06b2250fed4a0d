"""How a raw client behaves: drawn once for each, and kept to until its file is through."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Manners:
    """How one client goes about it; `ending` is complete, abort, walk away, or meddle."""

    ending: str
    declared: str | None = None
    unbound: bool = False
    other_bytes: bool = False
    acknowledge: str = "batches"
    repeat: float = 0.15
    completers: int = 1
    completes_with_parts: bool = True
    slowness: float = 0.0
    sends: float = 1.0


def choose_manners(rng: random.Random) -> Manners:
    """Draw a client."""
    ending = rng.choices(
        ["complete", "abort", "walk away", "complete behind", "abort behind", "abort and complete"],
        weights=[62, 8, 8, 8, 4, 4],
    )[0]
    unbound = rng.random() < 0.08
    other_bytes = rng.random() < 0.12 and ending == "complete"
    return Manners(
        ending=ending,
        declared=rng.choices([None, "crc64nvme", "sha256"], weights=[60, 25, 15])[0],
        unbound=unbound,
        other_bytes=other_bytes,
        acknowledge=rng.choice(["each", "batches", "late", "never"]),
        repeat=rng.choice([0.0, 0.15, 0.5]),
        completers=rng.choices([1, 2, 4], weights=[50, 30, 20])[0],
        # Whoever lets the wrong bytes into the store has to say which ones are meant.
        completes_with_parts=unbound or other_bytes or rng.random() < 0.5,
        slowness=rng.choice([0.0, 0.0, 0.05, 0.4]),
        sends=rng.choice([0.0, 0.5, 1.0]) if ending in {"abort", "walk away"} else 1.0,
    )
