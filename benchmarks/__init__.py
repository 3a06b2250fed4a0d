"""What the gateway's speed is measured against: `python -m benchmarks NAME [--json]`.

A benchmark is a module of this package, listed in `__main__.BENCHMARKS`, with one function
`run(arguments) -> Report`. Machines differ and shared ones swing, so what counts is a ratio of two
things measured in the same run, interleaved, the median of several rounds. A peer that cannot be
had is an error that says how to get it, never a blank. Linux only: /proc tells processor times.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured, in numbers that hold for this machine only: what by name and unit."""

    subject: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison of two rows, and what was wanted of it: at least, or at most, `goal`.

    Without a goal it is only worth knowing.
    """

    subject: str
    value: float
    goal: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Tell whether the goal was reached in this run; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Report:
    """What one run saw. `compared` says in a few sentences what was compared, and how."""

    name: str
    compared: str
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
