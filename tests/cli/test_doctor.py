"""`gateway doctor` before healthy and unhealthy dependencies."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from cli.program import Dev, running

from gateway.embedded import free_port
from gateway.storage.s3.policy import Needs, iam_policy


@pytest.fixture
def settings(dev: Dev, environment: dict[str, str]) -> dict[str, str]:
    """Give the settings of the running `gateway dev`, as a deployment beside it would have them."""
    s3 = dev.facts["s3"]
    return {
        **environment,
        "GW_PORT": dev.url.rpartition(":")[2],
        "GW_TOKEN": dev.facts["token"],
        "GW_S3_ENDPOINT": s3["endpoint"],
        "GW_S3_BUCKET": s3["bucket"],
        "GW_REDIS_URL": dev.facts["redis_url"],
        "AWS_REGION": s3["region"],
        "AWS_ACCESS_KEY_ID": s3["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3["secret_access_key"],
        # The table is as wide as its words.
        "COLUMNS": "300",
    }


async def doctor(
    settings: dict[str, str], directory: Path, *arguments: str
) -> tuple[int, str, str]:
    async with running("doctor", *arguments, environment=settings, directory=directory) as program:
        text = await program.output()
        return await program.end(), text, program.stderr


async def report(
    settings: dict[str, str], directory: Path, *arguments: str
) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    code, text, errors = await doctor(settings, directory, "--json", *arguments)
    assert "Traceback" not in errors
    document = orjson.loads(text)
    return code, document, {f"{f['area']} {f['name']}": f for f in document["findings"]}


async def test_a_healthy_deployment_passes(settings: dict[str, str], tmp_path: Path) -> None:
    code, document, findings = await report(settings, tmp_path)
    assert (code, document["ok"]) == (0, True)
    assert {finding["level"] for finding in findings.values()} == {"ok"}
    for name in (
        "settings token",
        "redis version",
        "redis persistence",
        "redis scripts",
        "store clock",
        "store bucket",
        "store part checksums",
        "store signed size",
    ):
        assert name in findings
    assert document["limits"]["part_checksums"]
    assert document["limits"]["parts"]["max_parts"] == 10_000


async def test_the_table_names_each_finding(settings: dict[str, str], tmp_path: Path) -> None:
    code, text, _ = await doctor(settings, tmp_path)
    assert code == 0
    assert "conditional completion" in text
    assert "All is well." in text


async def test_a_page_that_may_not_send_parts_is_a_gap_with_its_fix(
    settings: dict[str, str], tmp_path: Path
) -> None:
    origin = "https://elsewhere.example"
    code, document, findings = await report(settings, tmp_path, "--cors-origins", origin)
    assert (code, document["ok"]) == (0, True)
    (gap,) = (finding for name, finding in findings.items() if origin in name)
    assert gap["level"] == "warn"
    assert "CORS" in gap["fix"]


async def test_a_missing_bucket_fails(settings: dict[str, str], tmp_path: Path) -> None:
    code, document, findings = await report(settings, tmp_path, "--s3-bucket", "nobodys-bucket")
    assert (code, document["ok"], document["limits"]) == (1, False, None)
    assert findings["store bucket"]["level"] == "fail"
    assert "s3_bucket" in findings["store bucket"]["fix"]


async def test_dependencies_that_do_not_answer_fail_side_by_side(
    settings: dict[str, str], tmp_path: Path
) -> None:
    dead = free_port()
    code, _, findings = await report(
        settings,
        tmp_path,
        "--redis-url",
        f"redis://127.0.0.1:{dead}/0",
        "--s3-endpoint",
        f"http://127.0.0.1:{dead}",
    )
    assert code == 1
    assert findings["redis redis"]["level"] == "fail"
    assert findings["store store"]["level"] == "fail"


async def test_wrong_credentials_fail_and_are_not_repeated(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["AWS_SECRET_ACCESS_KEY"] = "not-the-secret"
    code, text, errors = await doctor(settings, tmp_path)
    assert code == 1
    assert "fail" in text
    assert "not-the-secret" not in text + errors


async def test_a_short_or_missing_token_is_a_warning(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["GW_TOKEN"] = "guess-me"
    code, _, findings = await report(settings, tmp_path)
    assert (code, findings["settings token"]["level"]) == (0, "warn")


async def test_the_policy_is_printed_without_asking_anybody(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["GW_S3_ENDPOINT"] = "http://127.0.0.1:1"
    code, text, _ = await doctor(settings, tmp_path, "--iam-policy", "--client-keys")
    assert code == 0
    bucket = settings["GW_S3_BUCKET"]
    assert orjson.loads(text) == iam_policy(Needs(bucket, "us-east-1", any_key=True))


async def test_a_narrow_terminal_has_each_fix_below_its_gap_and_the_gaps_at_the_end(
    settings: dict[str, str], tmp_path: Path
) -> None:
    settings["COLUMNS"] = "80"
    code, text, _ = await doctor(settings, tmp_path, "--redis-url", "redis://127.0.0.1:1/0")
    assert code == 1
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    (found,) = (number for number, line in enumerate(lines) if line.startswith("fail"))
    assert "127.0.0.1:1: Redis does not answer. (Connection" in lines[found]
    assert lines[found + 2].lstrip().startswith("-> Start it, or correct redis_url")
    assert lines[-1] == "To repair: redis."


async def test_part_urls_that_only_this_machine_reaches_are_a_warning(
    settings: dict[str, str], tmp_path: Path
) -> None:
    code, _, findings = await report(settings, tmp_path, "--host", "0.0.0.0")  # noqa: S104
    assert (code, findings["settings public endpoint"]["level"]) == (0, "warn")
    assert "s3_public_endpoint" in findings["settings public endpoint"]["fix"]


async def test_unusable_settings_are_a_finding_too(
    settings: dict[str, str], tmp_path: Path
) -> None:
    code, document, findings = await report(settings, tmp_path, "--port", "none")
    assert (code, document["ok"]) == (1, False)
    assert "GW_PORT" in findings["settings settings"]["detail"]
