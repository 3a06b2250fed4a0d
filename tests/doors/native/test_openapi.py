"""The OpenAPI document against the native door: what handlers read and render is what it says.

Answers are validated with every object closed, so that a field too many is a failure as well.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema_rs
import orjson
import pytest
from aiohttp import web
from gateways import SESSION_ID, FakeService, Serving
from project.test_openapi import make_document, operations, whole
from samples import make_session

from gateway.core.checksums import Checksum
from gateway.core.model import Part, Problem, State, StoredObject, VerifiedBy
from gateway.doors.native import parse, query, routes
from gateway.doors.native.openapi import OPERATIONS
from gateway.errors import Conflict
from gateway.web.bodies import Wire

DOCUMENT = make_document()
HERE = f"/uploads/{SESSION_ID}"
CRC = "AAAAAAAAAAA="
# One call that succeeds for each operation that has a body.
BODIES: dict[str, dict[str, Any]] = {
    "create": {"filename": "a", "sign": 2},
    "createInit": {"filename": "a"},
    "sign": {"parts": [{"part_number": 1}]},
    "acknowledge": {"parts": [{"part_number": 1, "etag": "e"}]},
    "complete": {},
    "progress": {"in_flight": {"1": 1}},
}


def closed(schema: Any) -> Any:
    """Return the schema with objects that have no other fields than those that it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    # In one of several schemas that all hold, the fields of the others are not known.
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made["additionalProperties"] = False
    return made


CLOSED = closed(DOCUMENT)


def validate(operation_id: str, answer_status: int, media_type: str, body: bytes) -> None:
    operation = next(
        found for found in operations(CLOSED).values() if found["operationId"] == operation_id
    )
    response = operation["responses"][str(answer_status)]
    if "$ref" in response:
        response = CLOSED["components"]["responses"][response["$ref"].rpartition("/")[2]]
    if not body:
        assert "content" not in response
        return
    schema = response["content"][media_type]["schema"]
    jsonschema_rs.Draft202012Validator(whole(CLOSED, schema)).validate(orjson.loads(body))


def sessions() -> Iterator[Any]:
    """Yield sessions that have each field filled, and empty."""
    stored = StoredObject("bucket", "key", 10, "e-1", {"crc64nvme": CRC}, {"gw-session": "x"})
    problem = Problem("checksum_mismatch", "It differs.", "Send it again.")
    for state in State:
        yield make_session(state=state)
        yield make_session(state=state, size=None)
        yield make_session(
            state=state,
            object=stored,
            error=problem,
            verified_by=VerifiedBy.STORE,
            checksum=Checksum("crc64nvme", CRC),
            fingerprint="f",
            metadata={"a": "b"},
        )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.operation_id)
async def test_a_handler_reads_the_body_and_the_parameters_that_are_described(
    gateway: Serving, service: FakeService, monkeypatch: pytest.MonkeyPatch, operation: Any
) -> None:
    read: defaultdict[str, set[str]] = defaultdict(set)
    models: list[type[Wire]] = []
    values, read_json = query.values, routes.read_json

    def noting_values(request: web.Request, name: str) -> list[str]:
        read["query"].add(name)
        return values(request, name)

    async def noting_read_json(request: web.Request, model: type[Wire], **options: Any) -> Any:
        models.append(model)
        return await read_json(request, model, **options)

    monkeypatch.setattr(query, "values", noting_values)
    monkeypatch.setattr(routes, "read_json", noting_read_json)
    service.complete_with(b"bytes")
    service.session = replace(service.session, state=State.COMPLETED)
    service.script(service.session)
    body = BODIES.get(operation.operation_id)
    async with gateway.client.request(
        operation.method,
        operation.path.replace("{session_id}", SESSION_ID).replace("{part_number}", "1"),
        json=body,
        data=b"bytes" if operation.bytes_body else None,
        headers={"Accept": "application/json"},
    ) as answer:
        content = await answer.read()
        assert answer.status in {found.status for found in operation.answers}
        if operation.operation_id != "events":
            validate(operation.operation_id, answer.status, answer.content_type, content)
    described = {found.name for found in operation.parameters if found.where == "query"}
    assert read["query"] == described
    assert models == ([operation.body] if operation.body else [])


def test_every_field_of_a_body_is_in_its_schema_and_the_reverse() -> None:
    bodies = [
        parse.ChecksumBody,
        parse.CreateBody,
        parse.PartToSignBody,
        parse.SignBody,
        parse.AcknowledgedBody,
        parse.AcknowledgeBody,
        parse.CompleteBody,
        parse.ProgressBody,
    ]
    for body in bodies:
        fields = {info.alias or name for name, info in body.model_fields.items()}
        assert DOCUMENT["components"]["schemas"][body.__name__]["properties"].keys() == fields


async def test_a_session_of_every_kind_is_as_described(
    gateway: Serving, service: FakeService
) -> None:
    for session in sessions():
        service.session = session
        async with gateway.client.get(HERE) as answer:
            validate("get", answer.status, answer.content_type, await answer.read())
        # The verb answers with no others.
        if session.state not in {State.OPEN, State.ABORTED, State.EXPIRED}:
            async with gateway.client.post(f"{HERE}/complete") as answer:
                validate("complete", answer.status, answer.content_type, await answer.read())


async def test_pages_are_as_described(gateway: Serving, service: FakeService) -> None:
    service.cursor = "cursor-1"
    service.known_parts = (Part(1, 10, "e", CRC), Part(2, 10, "f"))
    for operation_id, path in (("find", "/uploads"), ("parts", f"{HERE}/parts?limit=1")):
        async with gateway.client.get(path) as answer:
            assert "Link" in answer.headers
            validate(operation_id, answer.status, answer.content_type, await answer.read())


async def test_events_are_as_described(gateway: Serving, service: FakeService) -> None:
    session = make_session(state=State.VERIFYING)
    progress = replace(session.progress, verified_bytes=5)
    service.script(
        session,
        replace(session, progress=progress),
        replace(session, state=State.COMPLETED, version=9),
    )
    events = operations(CLOSED)["GET /uploads/{session_id}/events"]["x-events"]
    async with gateway.client.get(f"{HERE}/events") as answer:
        blocks = (await answer.text()).replace("\r\n", "\n").split("\n\n")
    seen = []
    for block in blocks:
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            seen.append(fields["event"])
            schema = whole(CLOSED, events[fields["event"]])
            jsonschema_rs.Draft202012Validator(schema).validate(orjson.loads(fields["data"]))
    assert seen == ["status", "progress", "status", "end"]


async def test_a_problem_is_as_described(gateway: Serving, service: FakeService) -> None:
    service.error = Conflict("Not so.", code="parts_missing", details={"missing": "1"})
    async with gateway.client.post(f"{HERE}/complete") as answer:
        validate("complete", answer.status, answer.content_type, await answer.read())


async def test_a_field_too_many_and_a_code_of_another_call_would_be_noticed(
    gateway: Serving, service: FakeService
) -> None:
    async with gateway.client.get(HERE) as answer:
        session = orjson.loads(await answer.read())
    with pytest.raises(jsonschema_rs.ValidationError):
        validate("get", 200, "application/json", orjson.dumps({**session, "more": 1}))
    session.pop("missing")
    with pytest.raises(jsonschema_rs.ValidationError):
        validate("get", 200, "application/json", orjson.dumps(session))
    service.error = Conflict("Not so.", code="parts_missing")
    async with gateway.client.delete(HERE) as answer:
        body = await answer.read()
        with pytest.raises(jsonschema_rs.ValidationError):
            validate("abort", answer.status, answer.content_type, body)
