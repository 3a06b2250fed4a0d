"""Calls generated from the OpenAPI document, valid and not, against a real gateway and its servers.

Whatever is sent, the answer is one that the document promises: its status, its headers, its body
with the very codes of that call. `pytest -m large` makes 75 times as many.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import minio
import pytest
import pytest_asyncio
import requests
import schemathesis
from deployment import TOKEN, Deployment, deployment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from project.test_openapi import make_document, operations
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import S3Target, new_bucket

from gateway.core.checksums import ALGORITHMS

log = logging.getLogger(__name__)

# That valid data is accepted cannot be asked: the core knows rules that a schema cannot say.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# Who may call is tested with the doors. Unknown query parameters are ignored, as everywhere.
CONFIG = schemathesis.Config.from_dict(
    {
        "generation": {"with-security-parameters": False, "allow-extra-parameters": False},
        # A session that is gone refuses everything, what is wrong in itself too.
        "checks": {
            "negative_data_rejection": {
                "expected-statuses": [400, 404, 405, 409, 410, 413, 415, 416, 422, 431]
            }
        },
    }
)
DOCUMENT = make_document()
# What ends sessions comes last.
CALLS = sorted(
    operations(DOCUMENT),
    key=lambda call: (call.startswith("DELETE"), call.endswith("/complete"), call),
)
CONTENT = b"the bytes of a file" * 1000


@dataclass(frozen=True)
class Sessions:
    """Sessions to call, by what they are."""

    open: tuple[str, ...]
    settled: tuple[str, ...]

    def of(self, call: str) -> tuple[str, ...]:
        # A stream of an open session does not end, and is looked at elsewhere.
        return self.settled if call.endswith("/events") else (*self.open, *self.settled)


@pytest_asyncio.fixture(scope="module")
async def deployed(
    s3: S3Target, oracle: minio.Minio, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("gateway")
    async with new_bucket(oracle) as bucket, deployment(s3, bucket, home) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def sessions(deployed: Deployment) -> Sessions:
    async def create(**body: Any) -> str:
        made = await deployed.call(
            "POST", "/uploads", json={"filename": "a.bin", "size": len(CONTENT), **body}
        )
        return str(made["session_id"])

    async def send(session: str) -> None:
        signed = await deployed.call(
            "POST", f"/uploads/{session}/parts/sign", json={"parts": [{"part_number": 1}]}
        )
        part = signed["parts"][0]
        async with (
            aiohttp.ClientSession() as http,
            http.put(part["url"], data=CONTENT, headers=part["headers"]) as answer,
        ):
            assert answer.ok
            etag = answer.headers["ETag"]
        value = ALGORITHMS["crc64nvme"].value_of(CONTENT)
        await deployed.call(
            "POST",
            f"/uploads/{session}/parts",
            json={"parts": [{"part_number": 1, "etag": etag, "checksum": value}]},
        )

    completed, corrupt, aborted, sent = [await create() for _ in range(4)]
    for session in (completed, corrupt, sent):
        await send(session)
    await deployed.call("POST", f"/uploads/{completed}/complete")
    wrong = {"algorithm": "crc64nvme", "value": ALGORITHMS["crc64nvme"].value_of(b"others")}
    with pytest.raises(AssertionError, match="corrupt"):
        await deployed.call("POST", f"/uploads/{corrupt}/complete", json={"checksum": wrong})
    await deployed.call("DELETE", f"/uploads/{aborted}")
    return Sessions(
        (
            sent,
            await create(),
            await create(size=None),
            await create(size=100 * 1024 * 1024, checksum_algorithm="sha256"),
        ),
        (completed, corrupt, aborted),
    )


def make_calls(deployed: Deployment, sessions: Sessions, call: str, count: int) -> int:
    """Make up to so many calls of one operation, half of them invalid; return how many."""
    method, _, path = call.partition(" ")
    operation = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)[path][method]
    made = 0
    with requests.Session() as http:
        http.trust_env = False

        def check(case: schemathesis.Case, session: str | None) -> None:
            nonlocal made
            checks = CHECKS
            if session is not None and "session_id" in case.path_parameters:
                case.path_parameters["session_id"] = session
                if not _has_wrong_body(case) or call.endswith("/complete"):
                    # Perhaps it was the id that was wrong; and a completion that is through is told
                    # again, whatever comes with the call.
                    checks = [check for check in CHECKS if check is not negative_data_rejection]
            made += 1
            case.call_and_validate(
                deployed.url,
                session=http,
                headers={"Authorization": f"Bearer {TOKEN}"},
                checks=checks,
                allow_redirects=False,
                timeout=60,
            )

        for mode in GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)
            ids = st.sampled_from([None, *sessions.of(call)])
            bounded = settings(
                max_examples=max(1, count // 2),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            try:
                bounded(given(strategy, ids)(check))()
            except Unsatisfiable:
                # There is nothing that could be wrong with a call that takes nothing, or but an id
                # that may be any text.
                assert mode is GenerationMode.NEGATIVE
                assert not _refuses_ids(path, method)
    return made


def _refuses_ids(path: str, method: str) -> bool:
    """Whether the document says which form an id in the path has."""
    described = DOCUMENT["paths"][path]
    parameters = [
        *described.get("parameters", ()),
        *described[method.lower()].get("parameters", ()),
    ]
    # A header may be told by reference; what is in a path is told in its place.
    return any(each.get("in") == "path" and "pattern" in each["schema"] for each in parameters)


def _has_wrong_body(case: schemathesis.Case) -> bool:
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    return body is not None and body.mode.is_negative


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "count",
    [16, pytest.param(1200, marks=[pytest.mark.large, pytest.mark.timeout(1800)])],
    ids=["some", "many"],
)
async def test_generated_calls_are_answered_as_the_document_says(
    deployed: Deployment, sessions: Sessions, call: str, count: int
) -> None:
    made = await asyncio.to_thread(make_calls, deployed, sessions, call, count)
    log.info("%d calls: %s", made, call)
    assert made > 0
