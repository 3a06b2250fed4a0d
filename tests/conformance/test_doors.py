"""Every door against the suite that all must pass."""

from typing import Any, cast

import orjson
from conformance.doors import DoorSuite
from gateways import SESSION_ID, FakeService

from gateway.doors.native import NativeDoor, NativeOptions
from gateway.web.door import Door


class TestNativeDoor(DoorSuite):
    calls_a_verb = ("GET", f"/uploads/{SESSION_ID}")

    def make(self, service: FakeService) -> Door:
        return NativeDoor(cast("Any", service), NativeOptions("0.0"))

    def error_code(self, body: bytes) -> str:
        document = orjson.loads(body)
        assert set(document) == {
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
        code = document["code"]
        assert isinstance(code, str)
        return code
