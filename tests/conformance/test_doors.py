"""Every door against the suite that all must pass."""

from typing import Any, cast

import orjson
from conformance.doors import DoorSuite
from gateways import SESSION_ID, FakeService, Serving

from gateway.doors.chunks import ChunksDoor
from gateway.doors.native import NativeDoor, NativeOptions
from gateway.errors import Conflict
from gateway.web.door import Door

NATIVE_MEMBERS = {
    "type",
    "title",
    "status",
    "code",
    "message",
    "hint",
    "retryable",
    "request_id",
    "details",
}


class TestNativeDoor(DoorSuite):
    calls_a_verb = ("GET", f"/uploads/{SESSION_ID}")

    def make(self, service: FakeService) -> Door:
        return NativeDoor(cast("Any", service), NativeOptions("0.0"))

    def error_code(self, body: bytes) -> str:
        document = orjson.loads(body)
        assert set(document) == NATIVE_MEMBERS
        code = document["code"]
        assert isinstance(code, str)
        return code


class ChunksSuite(DoorSuite):
    """The door of the older APIs; `members` are those of the errors of one form."""

    members: frozenset[str]
    # One door has the addresses of all four.
    others = (frozenset({"detail"}), frozenset({"detail", "code"}), frozenset(NATIVE_MEMBERS))

    def make(self, service: FakeService) -> Door:
        return ChunksDoor(cast("Any", service))

    def error_code(self, body: bytes) -> str:
        document = orjson.loads(body)
        assert set(document) in self.others
        if "code" in document:
            return str(document["code"])
        return "internal_error" if "The gateway made a mistake." in document["detail"] else "?"


class TestFormA(ChunksSuite):
    calls_a_verb = ("GET", "/upload-status/550e8400-e29b-41d4-a716-446655440000")
    members = frozenset({"detail"})


class TestFormB(ChunksSuite):
    calls_a_verb = ("GET", "/administration/upload/status/550e8400-e29b-41d4-a716-446655440000/")
    members = frozenset({"detail"})


class TestFormC(ChunksSuite):
    calls_a_verb = ("PUT", f"/uploads/{SESSION_ID}/part/0")
    members = frozenset(NATIVE_MEMBERS)


class TestFormD(ChunksSuite):
    calls_a_verb = ("GET", f"/uploads/sessions/{SESSION_ID}")
    members = frozenset({"detail", "code"})

    async def test_errors_are_in_this_forms_own_words(
        self, gateway: Serving, service: FakeService
    ) -> None:
        for suite in (TestFormA, TestFormB, TestFormC, TestFormD):
            service.error = Conflict("Not now.", code="part_conflict")
            async with gateway.client.request(*suite.calls_a_verb) as answer:
                assert answer.status == 409
                assert set(orjson.loads(await answer.read())) == suite.members
