"""The query parameters of the native API: each is read, checked and described by one object."""

import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.core.model import MAX_FINGERPRINT_BYTES, State
from gateway.core.plan import MAX_PART_NUMBER
from gateway.errors import InvalidRequest
from gateway.web.operations import Parameter

_DECIMAL = re.compile(r"[0-9]{1,9}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII)
_LONGEST_NUMBER = 20


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at most `longest` characters."""

    name: str
    description: str
    longest: int

    def read(self, request: web.Request) -> str | None:
        """Return it, None where it is absent or empty, or raise InvalidRequest `invalid_query`."""
        return _text(request, self.name, self.longest) or None

    def parameter(self) -> Parameter:
        """Describe it."""
        schema = {"type": "string", "maxLength": self.longest}
        return Parameter(self.name, "query", self.description, schema)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within its limits."""

    name: str
    description: str
    default: int
    least: int
    most: int

    def read(self, request: web.Request) -> int:
        """Return it, or the default, or raise InvalidRequest `invalid_query`."""
        value = _text(request, self.name, _LONGEST_NUMBER)
        if value is None:
            return self.default
        if not _DECIMAL.fullmatch(value) or not self.least <= int(value) <= self.most:
            hint = f"Send {self.name} as a whole number from {self.least} to {self.most}."
            raise _bad_query(self.name, hint)
        return int(value)

    def parameter(self) -> Parameter:
        """Describe it."""
        schema = {
            "type": "integer",
            "minimum": self.least,
            "maximum": self.most,
            "default": self.default,
        }
        return Parameter(self.name, "query", self.description, schema)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time in seconds, perhaps with a fraction."""

    name: str
    description: str
    default: float
    most: int

    def read(self, request: web.Request) -> float:
        """Return it, or the default, or raise InvalidRequest `invalid_query`."""
        value = _text(request, self.name, _LONGEST_NUMBER)
        if value is None:
            return self.default
        if not _SECONDS.fullmatch(value) or float(value) > self.most:
            raise _bad_query(self.name, f"Send {self.name} as seconds from 0 to {self.most}.")
        return float(value)

    def parameter(self) -> Parameter:
        """Describe it."""
        schema = {"type": "number", "minimum": 0, "maximum": self.most, "default": self.default}
        return Parameter(self.name, "query", self.description, schema)


@dataclass(frozen=True, slots=True)
class States:
    """Some states, with commas between."""

    name: str
    description: str

    def read(self, request: web.Request) -> frozenset[State] | None:
        """Return them, None for all, or raise InvalidRequest `invalid_query`."""
        value = _text(request, self.name, longest=200)
        if not value:
            return None
        try:
            return frozenset(State(name) for name in value.split(","))
        except ValueError:
            known = ", ".join(state.value for state in State)
            hint = f"Send some of {known}, with commas between."
            raise _bad_query(self.name, hint) from None

    def parameter(self) -> Parameter:
        """Describe them."""
        names = "|".join(state.value for state in State)
        # Empty is the same as absent.
        schema: dict[str, Any] = {
            "type": "string",
            "pattern": f"^(({names})(,({names}))*)?$",
            "maxLength": 200,
        }
        return Parameter(self.name, "query", self.description, schema)


@dataclass(frozen=True, slots=True)
class Flag:
    """1 or 0."""

    name: str
    description: str

    def read(self, request: web.Request) -> bool:
        """Return whether the query says NAME=1, or raise InvalidRequest `invalid_query`."""
        value = _text(request, self.name, _LONGEST_NUMBER)
        if value not in {None, "0", "1"}:
            raise _bad_query(self.name, f"Send {self.name}=1, or leave it out.")
        return value == "1"

    def parameter(self) -> Parameter:
        """Describe it."""
        schema = {"type": "integer", "enum": [0, 1], "default": 0}
        return Parameter(self.name, "query", self.description, schema)


FINGERPRINT: Final = Text(
    "fingerprint", "Only sessions created with this fingerprint.", MAX_FINGERPRINT_BYTES
)
STATE: Final = States("state", "Only sessions in one of these states, with commas between.")
SESSION_CURSOR: Final = Text("cursor", "`next_cursor` of the page before.", 512)
SESSION_LIMIT: Final = Whole("limit", "How many sessions at most.", 50, 1, 200)
PART_CURSOR: Final = Whole(
    "cursor", "`next_cursor` of the page before: its last part number.", 0, 0, MAX_PART_NUMBER
)
PART_LIMIT: Final = Whole("limit", "How many parts at most.", 1000, 1, MAX_PART_NUMBER)
WAIT: Final = Seconds("wait", "Seconds to wait for the end before answering 202.", 10.0, 60)
REPLACE: Final = Flag("replace", "1: other bytes may take the place of the stored part.")
RELAY: Final = Flag("relay", "1: the gateway itself sends the bytes.")


def values(request: web.Request, name: str) -> list[str]:
    """Return what the query has under a name; everything here is read through this."""
    return request.query.getall(name, [])


def _text(request: web.Request, name: str, longest: int) -> str | None:
    found = values(request, name)
    if len(found) > 1 or any(len(value) > longest for value in found):
        raise _bad_query(name, f"Send {name} once, with at most {longest} characters.")
    return found[0] if found else None


def _bad_query(name: str, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"The query parameter {name} is not valid.",
        code="invalid_query",
        hint=hint,
        details={"parameter": name},
    )
