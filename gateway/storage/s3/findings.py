"""What probing a store found, as rows of a table for people and limits for the part plan."""

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core.model import StorageLimits


class Level(StrEnum):
    """How good or bad a finding is: FAIL means that uploads cannot work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: what was looked at, what was seen, and what to do about it where it is not well."""

    name: str
    level: Level
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All findings in the order of looking, the limits that follow, and the seconds it took."""

    limits: StorageLimits
    findings: tuple[Finding, ...] = field(default=())
    seconds: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether uploads can work at all."""
        return all(finding.level is not Level.FAIL for finding in self.findings)
