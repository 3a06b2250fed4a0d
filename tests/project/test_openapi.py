"""The OpenAPI document is true: it has every route, field, parameter and error code, and no others.

What it promises is generated from the types that the code parses and renders; these tests look at
what generation cannot see. `tests/doors/native/test_openapi.py` compares it with real answers.
"""

import json
import re
from typing import Any, cast

import jsonschema_rs
import pytest
from aiohttp import web
from gateways import FakeService
from project.test_docs import served_codes
from project.test_errors import codes, make

from gateway.app import DOORS, api_document, build_app
from gateway.config import Settings
from gateway.web.door import DoorTable
from gateway.web.errors import status_of
from gateway.web.problems import PROBLEMS

# Codes that no answer to a call carries, each with the reason.
ELSEWHERE = {
    "append_busy": "no call of this API appends",
    "offset_mismatch": "no call of this API appends",
    "abort_incomplete": "an aborted session is cleared in the background",
    "conflict": "the name of a kind; each conflict has a name of its own",
    "forbidden": "the name of a kind",
    "rate_limited": "the name of a kind that nothing raises yet",
    "too_large": "the name of a kind",
    "unavailable": "the name of a kind",
    "unsupported_type": "the name of a kind",
    "invalid_certificate": "refuses to start",
    "invalid_limit": "the door knows the limits first, and says invalid_query",
    "invalid_retention": "refuses to start",
    "invalid_position": "the command line alone reads the stream of events",
    "invalid_redis_url": "refuses to start",
    "invalid_part_ranges": "the client reads ranges, the gateway does not",
    "method_not_allowed": "an answer to what is no call",
    "no_such_route": "an answer to what is no call",
    "no_such_upload": "always settled into session_gone, or into the object that was found",
    "outcome_uncertain": "a Complete is driven in the background, which looks again",
    "redis_cluster": "keeps the gate closed, which says starting",
    "scope_missing": "the one token that there is has all scopes",
    "store_unusable": "keeps the gate closed, which says starting",
    "too_many_parts": "the door knows the limit first, and says invalid_body",
    "wrong_state": "an open session may do all that is asked for, and another is refused before",
}
METHODS = ("get", "head", "post", "delete", "put", "patch", "options")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_document()


def make_document() -> dict[str, Any]:
    doors = DoorTable(
        [make(cast("Any", FakeService()), Settings(s3_bucket="bucket")) for make in DOORS.values()]
    )
    return cast("dict[str, Any]", json.loads(json.dumps(api_document(doors))))


def operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": item[method]
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }


def routes() -> set[str]:
    app = build_app(Settings(s3_bucket="bucket"))
    return {
        f"{route.method} {cast('web.Resource', route.resource).canonical}"
        for route in app.router.routes()
    }


def test_every_route_is_in_the_document_and_the_reverse(document: dict[str, Any]) -> None:
    described = set(operations(document))
    served = routes()
    assert described <= served
    # HEAD comes along with GET; where it does something else, it is described itself.
    lacking = {
        route
        for route in served - described
        if not (route.startswith("HEAD ") and f"GET{route[4:]}" in described)
    }
    assert not lacking


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for call, operation in operations(document).items():
        described = [
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "path"
        ]
        assert described == re.findall(r"{(\w+)}", call)


def test_operations_have_names_that_links_can_use(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-zA-Z]+", name) for name in names)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(document))):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found


def test_every_schema_and_every_example_is_valid(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"] or "enum" in schema, name
        jsonschema_rs.Draft202012Validator(whole(document, schema))
    examples = 0
    for operation in operations(document).values():
        for content in contents(document, operation):
            schema = whole(document, content["schema"])
            shown = [example["value"] for example in content.get("examples", {}).values()]
            shown += [content["example"]] if "example" in content else []
            for value in shown:
                jsonschema_rs.Draft202012Validator(schema).validate(value)
                examples += 1
    assert examples > 15


def whole(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that can stand alone."""
    return {**schema, "components": document["components"]}


def contents(document: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    return [content for body in bodies for content in body.get("content", {}).values()]


def documented_codes(document: dict[str, Any]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            name = response.get("$ref", "").rpartition("/")[2]
            content = document["components"]["responses"][name] if name else response
            problem = content.get("content", {}).get("application/problem+json")
            if problem is None:
                # Errors of older APIs have no place for a code; the text names them.
                for code in re.findall("`([a-z0-9_]+)`", content["description"]) if name else ():
                    found.setdefault(code, set()).add(int(status))
                continue
            for code in problem["schema"]["allOf"][1]["properties"]["code"]["oneOf"]:
                found.setdefault(code["const"], set()).add(int(status))
    return found


def test_every_code_of_an_answer_is_in_the_document_and_the_reverse(
    document: dict[str, Any],
) -> None:
    documented = documented_codes(document)
    served = set(served_codes())
    assert served - documented.keys() - ELSEWHERE.keys() == set()
    assert not documented.keys() & ELSEWHERE.keys()
    # Codes that are put together at run time.
    computed = {"corrupt", "rejected", "key_taken"}
    computed |= {code for code in PROBLEMS if re.fullmatch("session_[a-z]+|invalid_[a-z_]+", code)}
    assert documented.keys() <= served | computed
    assert documented.keys() == PROBLEMS.keys()


def test_every_code_is_documented_with_the_status_that_it_comes_with(
    document: dict[str, Any],
) -> None:
    kinds = codes()
    for code, statuses in documented_codes(document).items():
        assert statuses == {PROBLEMS[code].status}
        if code in kinds:
            assert statuses == {status_of(make(kinds[code], code))}, code


def test_the_document_names_no_machine_and_no_secret(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "/"}]
    assert not re.search(r"127\.0\.0\.1|localhost|law \d", json.dumps(document))
