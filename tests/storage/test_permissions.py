"""The printed policy is the smallest one: enough for all that is done, and nothing to spare."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cli.program import clean_environment, running
from faults.calls import call_of
from faults.proxy import StoreProxy
from servers import S3Target

from gateway.client import GatewayClient, Uploader
from gateway.storage.s3.client import S3Client
from gateway.storage.s3.findings import Finding, Level
from gateway.storage.s3.options import S3Options
from gateway.storage.s3.permissions import check_permissions
from gateway.storage.s3.policy import Needs, iam_policy

MIB = 1024 * 1024
TOKEN = "bXlyYW5kb210b2tlbm9mdGVzdHM"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
# docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
ACTIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CompleteMultipartUpload": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "ListParts": "s3:ListMultipartUploadParts",
    "PutObject": "s3:PutObject",
    "UploadPart": "s3:PutObject",
}
Grant = tuple[str, str]


def grants(policy: dict[str, Any]) -> set[Grant]:
    """Take a policy apart into pairs of one action and one resource."""
    found = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"]
        for resource in [resources] if isinstance(resources, str) else resources:
            found |= {(action, resource) for action in statement["Action"]}
    return found


class Guard(StoreProxy):
    """A store that obeys a policy, as Amazon would; `used` are the grants that were needed."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.granted: set[Grant] = set()
        self.used: set[Grant] = set()
        self.refused: list[Grant] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        signed = "Authorization" in request.headers or "X-Amz-Signature" in request.query
        if not signed or request.method == "OPTIONS":
            # The clock and CORS are everybody's business.
            return await super()._handle(request)
        call = call_of(request)
        operation = call.operation
        if not call.key and "lifecycle" in request.query:
            operation = "GetBucketLifecycleConfiguration"
        wanted = (
            ACTIONS[operation],
            f"arn:aws:s3:::{call.bucket}" + f"/{call.key}" * bool(call.key),
        )
        if not self._grants(wanted):
            self.refused.append(wanted)
            return _denied(request)
        response = await super()._handle(request)
        listing = ("s3:ListBucket", f"arn:aws:s3:::{call.bucket}")
        missing = operation in {"HeadObject", "GetObject"} and response.status == 404
        if missing and not self._grants(listing) and not response.prepared:
            return _denied(request)
        return response

    def _grants(self, wanted: Grant) -> bool:
        for action, resource in self.granted:
            if action == wanted[0] and fnmatchcase(wanted[1], resource):
                self.used.add((action, resource))
                return True
        return False


def _denied(request: web.Request) -> web.Response:
    body = "" if request.method == "HEAD" else "<Error><Code>AccessDenied</Code></Error>"
    return web.Response(status=403, text=body, content_type="application/xml")


@pytest_asyncio.fixture(scope="module")
async def guard(s3: S3Target) -> AsyncIterator[Guard]:
    proxy = Guard(s3.endpoint)
    async with proxy.running():
        yield proxy


@pytest_asyncio.fixture(scope="module")
async def client(guard: Guard, s3: S3Target) -> AsyncIterator[S3Client]:
    options = S3Options(
        endpoint_url=guard.url,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
    )
    async with S3Client(options) as opened:
        yield opened


async def look(client: S3Client, needs: Needs) -> list[Finding]:
    return await check_permissions(client, needs)


async def test_each_grant_that_is_missing_is_named(
    client: S3Client, guard: Guard, bucket: str
) -> None:
    needs = Needs(bucket, "us-east-1")
    full = grants(iam_policy(needs)) - {("s3:GetLifecycleConfiguration", needs.arn)}
    guard.granted = full
    (finding,) = await look(client, needs)
    assert (finding.name, finding.level) == ("permissions", Level.OK)
    assert len(full) == 11
    for action, resource in sorted(full):
        guard.granted = full - {(action, resource)}
        found = await look(client, needs)
        refused = {(f.name, f.detail) for f in found if f.level is Level.FAIL}
        assert (action, f"Refused on {resource}.") in refused
        # Nothing else is blamed, but for what a missing object cannot be told from.
        assert {name for name, _ in refused} <= {action, "s3:GetObject"}
        assert all("--iam-policy" in f.fix for f in found)


async def test_nothing_at_all_allowed_is_a_list_of_what_is_missing(
    client: S3Client, guard: Guard, bucket: str
) -> None:
    guard.granted = set()
    names = [finding.name for finding in await look(client, Needs(bucket, "us-east-1"))]
    assert {"s3:ListBucket", "s3:GetObject", "s3:PutObject"} <= set(names)


async def test_wrong_credentials_are_not_taken_for_missing_permissions(
    s3: S3Target, bucket: str
) -> None:
    for key, secret, words in (
        (s3.access_key_id, "not-the-secret", "secret"),
        ("nobody", "nothing", "does not know this access key"),
    ):
        options = S3Options(endpoint_url=s3.endpoint, access_key_id=key, secret_access_key=secret)
        async with S3Client(options) as client:
            (finding,) = await look(client, Needs(bucket, "us-east-1"))
        assert (finding.name, finding.level) == ("credentials", Level.FAIL)
        assert words in finding.detail


@asynccontextmanager
async def gateway(settings: dict[str, str], folder: Path) -> AsyncIterator[str]:
    async with running("serve", environment=settings, directory=folder) as program:
        (listening,) = await program.logged("listening")
        await program.logged("ready")
        yield listening["url"]
        assert await program.stop() == 0


async def test_with_exactly_the_policy_everything_works_and_all_of_it_is_used(
    guard: Guard, s3: S3Target, bucket: str, redis_url: str, tmp_path: Path
) -> None:
    settings = clean_environment(
        tmp_path,
        GW_PORT="0",
        GW_TOKEN=TOKEN,
        GW_REDIS_URL=redis_url,
        GW_REDIS_PREFIX=bucket[:32],
        GW_S3_ENDPOINT=guard.url,
        GW_S3_BUCKET=bucket,
        GW_S3_ACCESS_KEY_ID=s3.access_key_id,
        GW_S3_SECRET_ACCESS_KEY=s3.secret_access_key,
    )

    guard.granted = grants(iam_policy(Needs(bucket, "us-east-1")))
    guard.used.clear()
    guard.refused.clear()
    async with gateway(settings, tmp_path) as url:
        async with GatewayClient(url, token=TOKEN) as client:
            file = tmp_path / "film.bin"
            await asyncio.to_thread(file.write_bytes, os.urandom(11 * MIB))
            receipt = await Uploader(client).upload(file)
        assert receipt.verified_by == "client_parts"
        async with aiohttp.ClientSession(url, headers=HEADERS) as http:
            async with http.get(f"/uploads/{receipt.session_id}/content?relay=1") as answer:
                assert len(await answer.read()) == 11 * MIB
            await _abort_one(http, bytes(5 * MIB))
    by_gateway = set(guard.used)
    assert guard.refused == []
    async with running("doctor", "--json", environment=settings, directory=tmp_path) as program:
        findings = json.loads(await program.output())["findings"]
    assert not [finding for finding in findings if finding["level"] != "ok"]
    assert guard.refused == []
    assert guard.used == guard.granted
    # What a gateway alone has no use for is the doctor's, or the sweeper's after a crash.
    assert {action for action, _ in guard.granted - by_gateway} <= {
        "s3:GetLifecycleConfiguration",
        "s3:ListBucketMultipartUploads",
    }


async def _abort_one(http: aiohttp.ClientSession, body: bytes) -> None:
    """Abort an upload that has a part, after its parts have been listed."""
    wanted = {"filename": "a", "size": 6 * MIB, "part_size": 5 * MIB, "sign": 1}
    async with http.post("/uploads", json=wanted) as answer:
        session = await answer.json()
    (part,) = session["parts"]
    async with (
        aiohttp.ClientSession() as plain,
        plain.put(part["url"], data=io.BytesIO(body), headers=part["headers"]) as answer,
    ):
        assert answer.status == 200
    path = f"/uploads/{session['session_id']}"
    async with http.get(f"{path}/parts") as answer:
        assert len((await answer.json())["parts"]) == 1
    async with http.delete(path) as answer:
        assert answer.status == 204


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("eu-west-1", "arn:aws:s3:::films"),
        ("cn-north-1", "arn:aws-cn:s3:::films"),
        ("us-gov-west-1", "arn:aws-us-gov:s3:::films"),
    ],
)
def test_resources_are_named_for_their_partition(region: str, arn: str) -> None:
    assert {
        resource.partition("/")[0] for _, resource in grants(iam_policy(Needs("films", region)))
    } == {arn}


def test_keys_of_clients_and_making_the_bucket_need_more() -> None:
    plain = grants(iam_policy(Needs("films", "us-east-1")))
    assert ("s3:PutObject", "arn:aws:s3:::films/*") in grants(
        iam_policy(Needs("films", "us-east-1", any_key=True))
    )
    more = grants(iam_policy(Needs("films", "us-east-1", make_bucket=True))) - plain
    assert {action for action, _ in more} == {"s3:CreateBucket", "s3:PutBucketCORS"}
    # In any case, users' objects cannot be deleted.
    for needs in (Needs("f", "r"), Needs("f", "r", any_key=True, make_bucket=True)):
        deletable = {r for a, r in grants(iam_policy(needs)) if a == "s3:DeleteObject"}
        assert deletable == {"arn:aws:s3:::f/.gateway/probe/*"}
