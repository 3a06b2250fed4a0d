"""The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html), put together out of calls.

Whoever serves routes describes them as `Operation`s, with the very types that it parses and
renders; here these become one document, and the routes that serve it. What is not described is not
in it: a test compares it with the application's routes.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

import orjson
from aiohttp import hdrs, web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from gateway.web.bodies import Wire
from gateway.web.errors import PROBLEM_TYPE, ProblemDocument
from gateway.web.problems import EVERYWHERE, PROBLEMS, says_when

Schema = Mapping[str, Any]
"""A JSON Schema, dialect 2020-12."""

JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a call takes beside its body."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: Schema
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: its body by media type, as the type that is rendered, as a schema, or None."""

    status: int
    description: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[str] = ()
    example: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `errors` are the codes that it can answer besides those of every call.

    `events` are the names and data of a stream's events. `examples` are bodies by what they show,
    the first of which is the one that the curl line sends; `curl` are further arguments of it.
    """

    method: str
    path: str
    operation_id: str
    tag: str
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: type[Wire] | None = None
    body_required: bool = True
    answers: Sequence[Answer] = ()
    errors: frozenset[str] = frozenset()
    public: bool = False
    events: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    curl: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What the document says of the whole: `tags` are names with descriptions, in their order."""

    title: str
    version: str
    description: str
    tags: Mapping[str, str]


HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    "X-Request-Id": (
        "Names this request in the logs: the caller's own, where it sent one, or a new one.",
        {"type": "string", "minLength": 8, "maxLength": 64},
    ),
    "Date": ("The gateway's time (RFC 9110, section 6.6.1).", {"type": "string"}),
    "Location": ("Where to go on.", {"type": "string", "format": "uri-reference"}),
    "Link": (
        'The next page, `<...>; rel="next"` (RFC 8288); absent on the last one.',
        {"type": "string"},
    ),
    "Retry-After": (
        "Seconds after which to ask again.",
        # A header's value is text; readers of the document turn it into a number first.
        {"type": "integer", "minimum": 1},
    ),
    "WWW-Authenticate": ("`Bearer`, and what is wrong (RFC 6750).", {"type": "string"}),
    "ETag": ("Names this version of the bytes.", {"type": "string"}),
    "Cache-Control": ("Whether and how the answer may be kept.", {"type": "string"}),
    "Content-Range": ("Which bytes of how many follow.", {"type": "string"}),
    "Content-Disposition": ("Offers the file for saving, under its name.", {"type": "string"}),
    "Accept-Ranges": ("`bytes`: Range is honoured.", {"type": "string"}),
}
"""Every response header that the document names, with its schema."""

_EVERY_ANSWER = ("X-Request-Id", "Date")
_EVERY_REQUEST = Parameter(
    "X-Request-Id",
    "header",
    "Your own name for this request, for the logs and the answer; one of another form is replaced.",
    {"type": "string", "pattern": "^[A-Za-z0-9._-]{8,64}$"},
)


def assemble(operations: Iterable[Operation], about: About) -> dict[str, Any]:
    """Return the document, JSON-ready. Raises KeyError for an unknown code, ValueError for a header."""
    calls = list(operations)
    schemas = _Schemas([ProblemDocument, *(kind for call in calls for kind in _types(call))])
    responses: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        item = paths.setdefault(
            call.path, {"parameters": [{"$ref": "#/components/parameters/XRequestId"}]}
        )
        item[call.method.lower()] = _operation(call, schemas, responses)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": about.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to the document: true wherever the gateway is reached.
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in about.tags.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The gateway's token. A gateway without one serves its own"
                    " machine alone, and needs no header.",
                }
            },
            "parameters": {"XRequestId": _parameter(_EVERY_REQUEST)},
            "headers": {
                _key(name): {"description": text, "schema": schema}
                for name, (text, schema) in HEADERS.items()
            },
            "responses": dict(sorted(responses.items())),
            "schemas": schemas.definitions,
        },
    }


def openapi_routes(document: Mapping[str, Any]) -> list[web.RouteDef]:
    """Return `/openapi.json`. Anybody may read it, from a page elsewhere too."""
    body = orjson.dumps(document)
    etag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        # Asked again each time, and answered with 304: another version has other calls.
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    }

    async def get_document(request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        if any(tag.value in {etag, "*"} for tag in known):
            response = web.Response(status=304, headers=headers)
        else:
            response = web.Response(body=body, headers=headers, content_type=JSON)
        response.etag = etag
        return response

    return [web.get("/openapi.json", get_document, name="openapi", allow_head=True)]


OPENAPI_OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/openapi.json",
        operation_id="openapi",
        tag="Gateway",
        summary="This document",
        description="`If-None-Match` with the `ETag` answers 304 as long as it has not changed.",
        answers=[
            Answer(200, "OpenAPI 3.1.", {JSON: {"type": "object"}}, ("ETag", "Cache-Control")),
            Answer(304, "Not changed.", headers=("ETag", "Cache-Control")),
        ],
        public=True,
    ),
)


class _Plain(GenerateJsonSchema):
    """Without the titles that only repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's own name.
        return False


class _Schemas:
    """The schemas of all types at once, so that each is written once."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        unique = list(dict.fromkeys(kinds))
        inputs: list[tuple[int, Any, TypeAdapter[Any]]] = []
        for index, kind in enumerate(unique):
            adapter = TypeAdapter(kind)
            mode = "validation" if issubclass(kind, Wire) else "serialization"
            inputs.append((index, mode, adapter))
        found, shared = TypeAdapter.json_schemas(
            inputs, ref_template=_SCHEMAS + "{model}", schema_generator=_Plain
        )
        refs = {unique[index]: schema for (index, _), schema in found.items()}
        self._refs: dict[Any, Any] = refs
        self.definitions = dict(sorted((_untitled(shared.get("$defs", {}))).items()))

    def of(self, kind: Any) -> Any:
        """Return a schema as it is, and the reference to that of a type."""
        return kind if isinstance(kind, Mapping) else self._refs[kind]


def _types(call: Operation) -> list[Any]:
    bodies = [call.body] if call.body else []
    answers = [kind for answer in call.answers for kind in answer.content.values()]
    kinds = [*bodies, *answers, *call.events.values()]
    return [kind for kind in kinds if not isinstance(kind, Mapping)]


def _untitled(definitions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in schema.items() if key != "title"}
        for name, schema in definitions.items()
    }


def _operation(call: Operation, schemas: _Schemas, responses: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": call.operation_id,
        "tags": [call.tag],
        "summary": call.summary,
        "description": call.description or call.summary,
    }
    if call.parameters:
        made["parameters"] = [_parameter(parameter) for parameter in call.parameters]
    if call.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(call.body)}
        if call.examples:
            content["examples"] = {
                _slug(name): {"summary": name, "value": value}
                for name, value in call.examples.items()
            }
        made["requestBody"] = {"required": call.body_required, "content": {JSON: content}}
    made["responses"] = {
        str(answer.status): _answer(answer, schemas) for answer in call.answers
    } | _errors(call, responses)
    if call.public:
        made["security"] = []
    if call.events:
        made["x-events"] = {name: schemas.of(kind) for name, kind in call.events.items()}
    made["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": curl(call)}]
    return made


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    return made | {"required": True} if parameter.required else made


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": answer.description,
        "headers": _headers((*answer.headers, *_EVERY_ANSWER)),
    }
    if answer.content:
        made["content"] = {
            media_type: {"schema": schemas.of(kind)} for media_type, kind in answer.content.items()
        }
        if answer.example is not None:
            next(iter(made["content"].values()))["example"] = answer.example
    return made


def _headers(names: Sequence[str]) -> dict[str, Any]:
    unknown = [name for name in names if name not in HEADERS]
    if unknown:
        raise ValueError(f"The document does not describe {', '.join(unknown)}.")
    return {name: {"$ref": f"#/components/headers/{_key(name)}"} for name in names}


def _errors(call: Operation, responses: dict[str, Any]) -> dict[str, Any]:
    """Return the call's errors by status; equal ones are shared, as components."""
    made: dict[str, Any] = {}
    codes = call.errors | EVERYWHERE
    for status in sorted({PROBLEMS[code].status for code in codes}):
        here = sorted(code for code in codes if PROBLEMS[code].status == status)
        response = _problem(status, here)
        # Named by its content: the name stays as long as the codes do.
        digest = hashlib.sha256("\n".join(here).encode()).hexdigest()[:6]
        name = here[0] if len(here) == 1 else f"{status}_{digest}"
        responses[name] = response
        made[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return made


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    known = [{"const": code, "description": PROBLEMS[code].meaning} for code in codes]
    names = list(_EVERY_ANSWER)
    if any(says_when(code) for code in codes):
        names.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        names.append("WWW-Authenticate")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        names.append("Content-Range")
    phrase = HTTPStatus(status).phrase
    return {
        "description": f"{phrase}: " + ", ".join(f"`{code}`" for code in codes) + ".",
        "headers": _headers(names),
        "content": {
            PROBLEM_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": f"{_SCHEMAS}{ProblemDocument.__name__}"},
                        {"properties": {"status": {"const": status}, "code": {"oneOf": known}}},
                    ]
                }
            }
        },
    }


def curl(call: Operation) -> str:
    """Return the call as lines for a shell, with the server, the token and ids in variables."""
    words = ["curl"]
    if call.method == "HEAD":
        words.append("--head")
    elif call.method not in {"GET", "POST"} or (call.method == "POST" and not call.examples):
        words.append(f"--request {call.method}")
    if not call.public:
        words.append('--header "Authorization: Bearer $GW_TOKEN"')
    words += call.curl
    if call.examples:
        body = json.dumps(next(iter(call.examples.values())), ensure_ascii=False)
        words += ["--header 'Content-Type: application/json'", f"--data {shlex.quote(body)}"]
    path = call.path.replace("{session_id}", "$SESSION_ID").replace("{path}", "uploader.js")
    words.append(f'"$GW_SERVER{path}{call.query}"')
    return " \\\n  ".join(words)


def _key(name: str) -> str:
    return name.replace("-", "")


def _slug(text: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in text)
