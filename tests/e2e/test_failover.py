"""A whole upload by the real commands, while Sentinels put another Redis in the place of ours."""

import asyncio
from pathlib import Path

import aiohttp
import minio
from deployment import deployment
from e2e.test_resume import stored_sha256, write_file
from servers import S3Target
from state.failover import PASSWORD, SENTINEL_PASSWORD, failover

MIB = 1024 * 1024


async def test_an_upload_goes_on_through_a_failover_of_redis(
    s3: S3Target, bucket: str, oracle: minio.Minio, tmp_path: Path
) -> None:
    file = tmp_path / "film.bin"
    sha256 = await asyncio.to_thread(write_file, file, 30 * MIB)
    async with failover(tmp_path / "redis") as servers:
        found_by = {
            "GW_REDIS_URL": servers.url,
            "GW_REDIS_PASSWORD": PASSWORD,
            "GW_REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
        }
        async with deployment(s3, bucket, tmp_path, **found_by) as deployed:
            deployed.proxy.hold_after(2)
            client = await deployed.start_client(
                "upload", str(file), "--part-size", str(5 * MIB), "--parallel", "2", "--json"
            )
            before = await deployed.acknowledged_parts(at_least=1)
            await servers.copied()
            await servers.kill_primary()
            deployed.proxy.release()
            receipt = await client.receipt()
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{deployed.url}/readyz") as answer,
            ):
                assert answer.status == 200, await answer.text()
            session = await deployed.call("GET", f"/uploads/{receipt['session_id']}")
            # What was acknowledged before is not sent again.
            assert all(deployed.proxy.stored[number] == 1 for number in before)
    assert (session["state"], session["verified_by"]) == ("completed", "client_parts")
    key = session["object"]["key"]
    assert await asyncio.to_thread(stored_sha256, oracle, bucket, key) == sha256
