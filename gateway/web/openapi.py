"""The OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html), put together out of calls.

What is not described as an `Operation` is not in it; a test compares it with the application's
routes. It is made once, at the start, and served as it is.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from gateway.web.bodies import Wire
from gateway.web.errors import PROBLEM_TYPE, ProblemDocument
from gateway.web.operations import BYTES, GATEWAY, JSON, Answer, Operation, Parameter, Schema, curl
from gateway.web.problems import EVERYWHERE, PROBLEMS, says_when

_SCHEMAS: Final = "#/components/schemas/"
FORM_TYPE: Final = "multipart/form-data"

_TITLE: Final = "Multipart gateway"
_DESCRIPTION: Final = """\
Large files into S3-compatible storage: resumable, in parallel, and never called completed before \
the stored object is verified. The bytes do not pass through here: clients PUT them to the store, \
on presigned part URLs.

An upload is five calls: `create` a session, `sign` part URLs, PUT each part to its URL at the \
store, `acknowledge` the ETags that the store answers with, `complete`. Every one of them may be \
repeated. After a crash `parts` tells what the store has; only the rest is sent again.

Bodies are JSON in UTF-8, sizes bytes, times RFC 3339 in UTC, part numbers from 1 to 10,000, \
checksums base64 as S3 writes them. Unknown fields of a body are ignored. Every GET but the event \
stream answers HEAD too.

Errors are problems (RFC 9457) with a `code` that is stable, a `hint` that says what to do, and \
`Retry-After` where the same call may succeed later. An address that is not listed here is 404 \
`no_such_route`, another method 405 `method_not_allowed`."""

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
    "Your own name for this request, for the logs and the answer: 8 to 64 letters, digits, dots,"
    " hyphens and underscores. Anything else is replaced.",
    {"type": "string"},
)


def assemble(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the document, JSON-ready; KeyError for a code or ValueError for a header unknown."""
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
            "title": _TITLE,
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Relative to the document: true wherever the gateway is reached.
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [
            {"name": tag.name, "description": tag.description}
            for tag in dict.fromkeys(call.tag for call in calls)
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Calls carry the gateway's token: `Authorization: Bearer"
                    " TOKEN`. A gateway that has none serves its own machine alone, and needs no"
                    " header.",
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
        tag=GATEWAY,
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
    """As a person would write it: no titles that repeat names, no null for what may be absent."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's own name.
        return False

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and not {"enum", "const"} & inner.keys():
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def default_schema(self, schema: Any) -> dict[str, Any]:
        made = super().default_schema(schema)
        return {key: value for key, value in made.items() if (key, value) != ("default", None)}


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
        self._refs: dict[Any, Any] = {unique[index]: schema for (index, _), schema in found.items()}
        self.definitions = _used(shared.get("$defs", {}), self._refs.values())

    def of(self, kind: Any) -> Any:
        """Return a schema as it is, and the reference to that of a type."""
        return kind if isinstance(kind, Mapping) else self._refs[kind]


def _types(call: Operation) -> list[Any]:
    bodies = [call.body] if call.body is not None else []
    answers = [kind for answer in call.answers for kind in answer.content.values()]
    failures = [call.failure] if call.failure is not None else []
    kinds = [*bodies, *answers, *failures, *call.events.values()]
    return [kind for kind in kinds if not isinstance(kind, Mapping)]


def _used(definitions: Mapping[str, Any], roots: Iterable[Any]) -> dict[str, Any]:
    """Return the definitions that something refers to, without the titles that repeat names."""
    used: dict[str, Any] = {}
    unseen = list(roots)
    while unseen:
        match unseen.pop():
            case {"$ref": str(reference), **rest}:
                name = reference.removeprefix(_SCHEMAS)
                unseen.append(rest)
                if name not in used:
                    schema = {k: v for k, v in definitions[name].items() if k != "title"}
                    used[name] = schema
                    unseen.append(schema)
            case Mapping() as mapping:
                unseen.extend(mapping.values())
            case list() as items:
                unseen.extend(items)
    return dict(sorted(used.items()))


def _operation(call: Operation, schemas: _Schemas, responses: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": call.operation_id,
        "tags": [call.tag.name],
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
    if call.bytes_body:
        made["requestBody"] = {
            "required": True,
            "description": call.bytes_body,
            "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        }
    if call.form is not None:
        made["requestBody"] = {"required": True, "content": {FORM_TYPE: {"schema": call.form}}}
    made["responses"] = _responses(call, schemas, responses)
    if call.public:
        made["security"] = []
    if call.events:
        made["x-events"] = {name: schemas.of(kind) for name, kind in call.events.items()}
    made["x-codeSamples"] = [
        {"lang": "Shell", "label": "curl", "source": curl(call)},
        *({"lang": "Text", "label": name, "source": text} for name, text in call.samples.items()),
    ]
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


def _responses(
    call: Operation, schemas: _Schemas, shared: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the call's answers by status; problems that are equal are shared, as components."""
    made = {str(answer.status): _answer(answer, schemas) for answer in call.answers}
    codes = call.errors | EVERYWHERE
    for status in sorted({PROBLEMS[code].status for code in codes}):
        here = sorted(code for code in codes if PROBLEMS[code].status == status)
        failure = None if call.failure is None else schemas.of(call.failure)
        problem = _problem(status, here, failure)
        answer = made.get(str(status))
        if answer is not None:
            # A status that is an answer too: which one it is, the media type tells.
            made[str(status)] = {
                "description": f"{answer['description']} {problem['description']}",
                "headers": {**answer["headers"], **problem["headers"]},
                "content": {**answer["content"], **problem["content"]},
            }
            continue
        # Named by its content: the name stays as long as the codes do.
        told = [*here, call.failure.__name__] if call.failure is not None else here
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:6]
        name = told[0] if len(told) == 1 else f"{status}_{digest}"
        shared[name] = problem
        made[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return made


def _problem(status: int, codes: Sequence[str], failure: Any) -> dict[str, Any]:
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
        }
        if failure is None
        else {JSON: {"schema": failure}},
    }


def _key(name: str) -> str:
    return name.replace("-", "")


def _slug(text: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in text)
