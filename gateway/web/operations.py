"""Calls as their servers describe them: what each takes, answers and can fail with.

Whoever serves routes describes them here, with the very types that it parses and renders;
`openapi` makes the document out of that.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.web.bodies import Wire

Schema = Mapping[str, Any]
"""A JSON Schema, dialect 2020-12."""

_LINE: Final = 60
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
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
class Tag:
    """A group of calls."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `errors` are the codes that it can answer besides those of every call.

    A body that is no JSON has its description in `bytes_body`, or its schema in `form`. `failure` is
    the type of its errors' JSON, where they are no problems of RFC 9457.

    `events` are the names and data of a stream's events. `examples` are bodies by what they show,
    the first of which is the one that the curl line sends; `query` and `curl` are further parts of
    that line. `samples` are texts to look at.
    """

    method: str
    path: str
    operation_id: str
    tag: Tag
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: type[Wire] | None = None
    body_required: bool = True
    bytes_body: str = ""
    form: Schema | None = None
    answers: Sequence[Answer] = ()
    errors: frozenset[str] = frozenset()
    failure: Any = None
    public: bool = False
    events: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    curl: Sequence[str] = ()
    samples: Mapping[str, str] = field(default_factory=dict)


GATEWAY: Final = Tag("Gateway", "The gateway itself, for machines. Nothing here needs a token.")


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
        if len(body) > _LINE:
            body = json.dumps(json.loads(body), ensure_ascii=False, indent=2).replace("\n", "\n  ")
        words += ["--header 'Content-Type: application/json'", f"--data {shlex.quote(body)}"]
    path = call.path.replace("{session_id}", "$SESSION_ID").replace("{path}", "uploader.js")
    path = path.replace("{file_id}", "$FILE_ID").replace("{upload_id}", "$UPLOAD_ID")
    path = path.replace("{idx}", "0")
    words.append(f'"$GW_SERVER{path}{call.query}"')
    return " \\\n  ".join(words)
