"""What the store does to unfinished uploads, compared with the life of sessions."""

import asyncio
from datetime import timedelta

import pytest
from storage.conftest import Request, StubStore, reply

from gateway.storage.s3.client import S3Client
from gateway.storage.s3.expiry import check_expiry
from gateway.storage.s3.findings import Finding

DAY = timedelta(days=1)


def rules(*found: str) -> bytes:
    inner = "".join(f"<Rule><ID>x</ID>{rule}</Rule>" for rule in found)
    return f"<LifecycleConfiguration>{inner}</LifecycleConfiguration>".encode()


def rule(days: int, prefix: str = "", status: str = "Enabled") -> str:
    return (
        f"<Filter><Prefix>{prefix}</Prefix></Filter><Status>{status}</Status>"
        "<AbortIncompleteMultipartUpload>"
        f"<DaysAfterInitiation>{days}</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
    )


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()


async def look(
    client: S3Client, *, lifetime: timedelta = 7 * DAY, grace: timedelta = DAY
) -> Finding:
    return await check_expiry(client, "bucket", lifetime=lifetime, grace=grace)


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        ((rule(9),), "ok", "kept for 9 days"),
        ((rule(8),), "warn", "before the grace"),
        ((rule(7),), "warn", "lost in the middle"),
        ((rule(3, "uploads/"),), "warn", "after 3 days"),
        ((rule(30), rule(2, "uploads/films/")), "warn", "after 2 days"),
        ((rule(1, "backups/"),), "ok", "No rule"),
        ((rule(1, status="Disabled"),), "ok", "No rule"),
        (("<Status>Enabled</Status><Expiration><Days>1</Days></Expiration>",), "ok", "No rule"),
    ],
)
async def test_the_bucket_s_rules_are_compared(
    client: S3Client, stub: StubStore, found: tuple[str, ...], level: str, words: str
) -> None:
    stub.say(200, rules(*found))
    finding = await look(client)
    assert (finding.level, words in finding.detail) == (level, True), finding
    assert bool(finding.fix) == (level == "warn")


async def test_the_fix_is_one(client: S3Client, stub: StubStore) -> None:
    stub.say(200, rules(rule(3)))
    finding = await look(client)
    assert "wait for 9 days" in finding.fix
    assert "session_lifetime=53h and grace=18h" in finding.fix
    fixed = await look(client, lifetime=timedelta(hours=53), grace=timedelta(hours=18))
    assert fixed.level == "ok"
    stub.say(200, rules(rule(9)))
    assert (await look(client)).level == "ok"


async def test_a_store_without_rules_keeps_them(client: S3Client, stub: StubStore) -> None:
    for status, code in ((404, "NoSuchLifecycleConfiguration"), (501, "NotImplemented")):
        stub.say(status, error(code))
        assert (await look(client)).level == "ok"


async def test_rules_that_may_not_be_read_are_a_warning(client: S3Client, stub: StubStore) -> None:
    stub.say(403, error("AccessDenied"))
    finding = await look(client)
    assert finding.level == "warn"
    assert "s3:GetLifecycleConfiguration" in finding.detail


async def test_minio_is_known_by_its_answers(client: S3Client, stub: StubStore) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        body = b"" if request.method == "HEAD" else error("NoSuchLifecycleConfiguration")
        writer.write(reply(403 if request.method == "HEAD" else 404, body, server="MinIO"))

    stub.answer = answer
    finding = await look(client)
    assert finding.level == "warn"
    assert "MINIO_API_STALE_UPLOADS_EXPIRY=193h" in finding.fix
    day = await look(client, lifetime=timedelta(hours=22), grace=timedelta(hours=1))
    assert day.level == "ok"


async def test_a_store_that_is_away_is_not_accused(client: S3Client, stub: StubStore) -> None:
    assert stub.answer is None
    assert (await look(client)).level == "ok"
