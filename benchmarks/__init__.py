"""What the gateway's speed is measured against: `python -m benchmarks NAME [--json]`.

A benchmark is a module of this package, listed in `__main__.BENCHMARKS`, with one function
`run(arguments) -> Report`. Machines differ and shared ones swing, so what counts is a ratio of two
things measured in the same run, interleaved, the median of several rounds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured, in numbers that hold for this machine only."""

    subject: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison of two rows, and what was wanted of it: at least, or at most, `goal`."""

    subject: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the goal was reached in this run."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Report:
    """What one run saw. `compared` says in a sentence or two what was compared, and how."""

    name: str
    compared: str
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
