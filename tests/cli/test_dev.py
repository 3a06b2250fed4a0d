"""`gateway dev` as its users have it: the real command, real servers, real ends."""

import asyncio
import hashlib
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import aiohttp
import pytest
from cli.program import Dev, running
from cli.program import dev as running_dev
from servers import S3Target, oracle_for, process_gone, until

MIB = 1024 * 1024


def free_and_held() -> socket.socket:
    """Hold a port, as a program that was there first does."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return holder


async def test_a_file_goes_up_on_presigned_urls_and_is_whole_in_the_store(dev: Dev) -> None:
    content = os.urandom(9 * MIB)
    session = await dev.upload("holiday 🏖.mp4", content)
    s3 = dev.facts["s3"]
    target = S3Target(
        endpoint=s3["endpoint"],
        region=s3["region"],
        access_key_id=s3["access_key_id"],
        secret_access_key=s3["secret_access_key"],
    )

    def read_back() -> bytes:
        with oracle_for(target) as store:
            answer = store.get_object(s3["bucket"], session["object"]["key"])
            try:
                return answer.read()
            finally:
                answer.close()
                answer.release_conn()

    stored = await asyncio.to_thread(read_back)
    assert hashlib.sha256(stored).digest() == hashlib.sha256(content).digest()
    assert session["part_count"] == 2


async def test_the_line_for_scripts_says_what_is_needed(dev: Dev) -> None:
    facts = dev.facts
    assert dev.line.count("\n") == 1
    assert set(facts) == {"url", "upload_page", "token", "s3", "redis_url", "data_dir", "pids"}
    assert facts["upload_page"] == f"{facts['url']}/#token={facts['token']}"
    assert set(facts["s3"]) == {
        "endpoint",
        "region",
        "bucket",
        "access_key_id",
        "secret_access_key",
    }
    assert set(facts["pids"]) == {"gateway", "valkey", "seaweed"}
    assert facts["pids"]["gateway"] == dev.program.pid
    assert not any(process_gone(pid) for pid in dev.pids)


async def test_it_is_ready_when_it_says_so(dev: Dev) -> None:
    status, answer = await dev.call("GET", "/readyz")
    assert (status, answer["status"]) == (200, "ready")
    async with aiohttp.ClientSession() as http, http.get(dev.url) as page:
        assert page.status == 200
        assert "text/html" in page.headers["Content-Type"]
        # Without this, the page's own script could not send parts to the store.
        assert dev.facts["s3"]["endpoint"] in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_the_store_lets_the_upload_page_send_parts(dev: Dev, name: str) -> None:
    origin = f"http://{name}:{dev.url.rpartition(':')[2]}"
    assert await preflight(dev, origin) == origin


async def test_the_store_lets_no_other_page_send_parts(dev: Dev) -> None:
    assert await preflight(dev, "https://evil.example") is None


async def preflight(dev: Dev, origin: str) -> str | None:
    _, session = await dev.call("POST", "/uploads", json={"filename": "a", "size": 5, "sign": 1})
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "x-amz-checksum-crc64nvme",
    }
    url = session["parts"][0]["url"]
    async with aiohttp.ClientSession() as http, http.options(url, headers=headers) as answer:
        return answer.headers.get("Access-Control-Allow-Origin")


async def test_the_api_wants_the_token(dev: Dev) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{dev.url}/uploads") as answer:
        assert answer.status == 401


async def test_clients_of_the_older_chunk_apis_on_this_machine_need_none(dev: Dev) -> None:
    fields = {"file_id": "1", "chunk_index": "0", "total_chunks": "1", "filename": "a.txt"}
    async with aiohttp.ClientSession() as http:
        for headers, status in (({}, 200), ({"Origin": "https://evil.example"}, 403)):
            form = aiohttp.FormData(fields)
            form.add_field("chunk", b"bytes", filename="chunk")
            async with http.post(f"{dev.url}/upload-chunk", data=form, headers=headers) as answer:
                assert answer.status == status, await answer.text()


def test_only_the_user_can_read_the_secrets(dev: Dev) -> None:
    folder = Path(dev.facts["data_dir"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "dev.json").stat().st_mode) == 0o600


async def test_a_second_one_on_the_same_data_is_refused(
    dev: Dev, environment: dict[str, str], tmp_path: Path
) -> None:
    async with running(
        "dev",
        "--data-dir",
        dev.facts["data_dir"],
        "--json",
        environment=environment,
        directory=tmp_path,
    ) as second:
        assert await second.output() == ""
        assert await second.end() == 1
    assert f"running on {dev.facts['data_dir']} (process {dev.program.pid})" in second.stderr
    assert "--data-dir" in second.stderr
    assert (await dev.call("GET", "/readyz"))[0] == 200


async def test_killed_it_leaves_no_process_and_started_again_it_has_its_data_and_addresses(
    environment: dict[str, str], tmp_path: Path
) -> None:
    data_dir = tmp_path / "a folder"
    content = os.urandom(MIB)
    async with running_dev("--port", "0", data_dir=data_dir, environment=environment) as first:
        session = await first.upload("kept.bin", content)
        await first.program.kill()
        await first.gone()
    async with running_dev("--port", "0", data_dir=data_dir, environment=environment) as again:
        different = {"pids"}
        for name in first.facts.keys() - different:
            assert again.facts[name] == first.facts[name], name
        status, found = await again.call("GET", f"/uploads/{session['session_id']}")
        assert (status, found["state"]) == (200, "completed")
        status, link = await again.call(
            "GET",
            f"/uploads/{session['session_id']}/content",
            headers={"Accept": "application/json"},
        )
        async with aiohttp.ClientSession() as http, http.get(link["url"]) as answer:
            assert await answer.read() == content
        # Ctrl-C ends it in order, and it ends all.
        assert await again.program.stop(signal.SIGINT) == 0
        await again.gone()


async def test_a_taken_port_is_replaced_and_the_printed_commands_can_be_pasted(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with free_and_held() as holder:
        taken = holder.getsockname()[1]
        async with running(
            "dev",
            "--port",
            str(taken),
            "--data-dir",
            "data",
            environment=environment,
            directory=tmp_path,
        ) as program:
            text = await program.text_until("Ctrl-C")
            (page,) = (line.split()[-1] for line in text.splitlines() if "Upload page" in line)
            url, _, token = page.partition("/#token=")
            assert not url.endswith(f":{taken}")
            (warning,) = await program.logged("port not usable, another one is taken")
            assert warning["port"] == taken
            created = await paste(text, "curl", tmp_path)
            assert '"state":"open"' in created
            listed = await paste(text, "curl", tmp_path, last=True)
            assert '"uploads":[{' in listed
            await paste(text, "aws", tmp_path)
            (tmp_path / "FILE").write_bytes(b"hello")
            uploaded = await paste(text, f"GW_SERVER={url} GW_TOKEN={token}", tmp_path)
            assert "uploaded and verified" in uploaded
            # What was uploaded above may not have been handed on yet; that it can be read counts.
            await paste(text.replace(" --follow", ""), "GW_REDIS_URL=", tmp_path)
            assert await program.stop() == 0


async def paste(text: str, command: str, directory: Path, *, last: bool = False) -> str:
    """Run a command of the text in a shell, after the exports and with its continuation lines."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    chosen = [line for line in lines if line.startswith(command)][-1 if last else 0]
    exports = [line for line in lines if line.startswith("export ")]
    # The script of the AWS CLI does not start from a path that has a space in it.
    programs = Path(sys.executable).parent
    aws = directory / "bin" / "aws"
    aws.parent.mkdir(exist_ok=True)
    aws.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{programs / "aws"}" "$@"\n')
    aws.chmod(0o700)
    path = f"{aws.parent}:{programs}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-ec",
        "\n".join([*exports, chosen]),
        cwd=directory,
        env={"PATH": path, "HOME": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (chosen, err)
    return out.decode()


async def test_a_signal_during_the_start_ends_what_was_started(
    environment: dict[str, str], tmp_path: Path
) -> None:
    async with running(
        "dev", "--data-dir", "data", "--port", "0", environment=environment, directory=tmp_path
    ) as program:
        await program.text_until("Starting")
        await until(lambda: len(children(program.pid)) == 2, seconds=30)
        started = children(program.pid)
        assert await program.stop(signal.SIGINT) == 130
        await until(lambda: all(process_gone(pid) for pid in started), seconds=10)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_server_that_dies_comes_back(environment: dict[str, str], tmp_path: Path) -> None:
    async with running_dev(
        "--port", "0", data_dir=tmp_path / "data", environment=environment
    ) as dev:
        status, session = await dev.call("POST", "/uploads", json={"filename": "a", "size": 5})
        assert status == 201
        os.kill(dev.facts["pids"]["valkey"], signal.SIGKILL)
        await dev.program.logged("a server ended and is started again")
        await dev.ready()
        assert (await dev.call("GET", f"/uploads/{session['session_id']}"))[0] == 200
        assert await dev.program.stop() == 0


async def test_damaged_secrets_are_not_replaced_by_new_ones(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dev.json").write_text("{")
    code, errors = await refused(environment, tmp_path, "--data-dir", "data")
    assert code == 1
    assert "dev.json cannot be read" in errors
    assert (tmp_path / "data" / "dev.json").read_text() == "{"


async def test_a_file_in_the_place_of_the_data_directory_is_an_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("mine")
    code, errors = await refused(environment, tmp_path, "--data-dir", "data")
    assert code == 1
    assert "cannot be used as the data directory" in errors
    assert (tmp_path / "data").read_text() == "mine"


async def test_without_the_wheels_it_says_what_to_install(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # As after `pip install multipart-gateway` without the extra.
    program = (
        "import importlib.metadata as metadata\n"
        "def missing(name):\n"
        "    raise metadata.PackageNotFoundError(name)\n"
        "metadata.files = missing\n"
        "from gateway.cli.main import main\n"
        "main()\n"
    )
    code, errors = await refused(
        environment, tmp_path, "--data-dir", "data", command=(sys.executable, "-c", program)
    )
    assert code != 0
    assert "pip install 'multipart-gateway[embedded]'" in errors
    assert "Traceback" not in errors


async def refused(
    environment: dict[str, str],
    directory: Path,
    *arguments: str,
    command: tuple[str, ...] = (sys.executable, "-m", "gateway"),
) -> tuple[int, str]:
    async with running(
        "dev",
        "--json",
        *arguments,
        environment=environment,
        directory=directory,
        command=command,
    ) as program:
        assert await program.output() == ""
        code = await program.end()
    return code, program.stderr
