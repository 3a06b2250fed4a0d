import asyncio
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError
from servers import listening_addresses, process_file, process_gone

from gateway.embedded import Valkey, free_port, process
from gateway.errors import Conflict, InvalidRequest, Unavailable


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Give a server whose directory has everything in its name that a configuration quotes."""
    async with Valkey(tmp_path / 'of "mine", ünd\\more') as server:
        yield server


async def ask(url: str, *words: str | int) -> object:
    async with redis.asyncio.from_url(url, protocol=3, decode_responses=True) as client:
        return await client.execute_command(*words)


async def test_it_is_ready_within_two_seconds(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    began = time.monotonic()
    async with server:
        took = time.monotonic() - began
        assert await ask(server.url, "ECHO", "hello") == "hello"
    assert took < 2


async def test_the_password_is_required(server: Valkey) -> None:
    for url in (
        f"redis://127.0.0.1:{server.port}/0",
        f"redis://:wrong@127.0.0.1:{server.port}/0",
    ):
        with pytest.raises(AuthenticationError):
            await ask(url, "GET", "key")


async def test_a_random_password_is_never_shown(server: Valkey) -> None:
    assert len(server.password) >= 32
    assert server.password not in repr(server)
    shown = process_file(server.pid, "cmdline") + process_file(server.pid, "environ")
    files = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())
    assert server.password.encode() not in shown + files


async def test_a_password_with_quotes_spaces_and_emoji_works(tmp_path: Path) -> None:
    async with Valkey(tmp_path, password="a \"b\" 'c' \\x41 é 🙂/@:?#") as server:
        assert await ask(server.url, "ECHO", "hello") == "hello"


@pytest.mark.parametrize("password", ["", "two\nlines", "zero\0byte"])
def test_a_password_that_cannot_be_typed_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Valkey(tmp_path, password=password)
    assert caught.value.code == "invalid_password"


async def test_it_listens_on_loopback_only(server: Valkey) -> None:
    assert listening_addresses(server.pid) == {"0100007F"}


async def test_it_keeps_everything_it_is_told(server: Valkey) -> None:
    settings = await ask(server.url, "CONFIG", "GET", "append*", "maxmemory-policy", "save")
    assert isinstance(settings, dict)
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"


async def test_data_survive_stop_and_start(server: Valkey) -> None:
    await ask(server.url, "SET", "key", "value")
    await server.stop()
    assert not server.running
    await server.start()
    assert await ask(server.url, "GET", "key") == "value"


async def test_acknowledged_data_survive_a_crash_on_the_same_port(server: Valkey) -> None:
    port, pid = server.port, server.pid
    for number in range(100):
        await ask(server.url, "SET", f"key-{number}", number)
    await server.kill()
    assert process_gone(pid)
    await server.start()
    assert server.port == port
    assert await ask(server.url, "DBSIZE") == 100


async def test_a_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with Valkey(tmp_path, port=taken.getsockname()[1]) as server:
            assert server.port != taken.getsockname()[1]
            assert await ask(server.url, "ECHO", "hello") == "hello"


async def test_a_port_lost_between_choice_and_bind_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        choices = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr("gateway.embedded.valkey.free_port", lambda _: next(choices))
        async with Valkey(tmp_path) as server:
            assert await ask(server.url, "ECHO", "hello") == "hello"


async def test_a_unix_socket_is_open_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "in here" / "valkey.sock"
    async with Valkey(tmp_path / "data", unix_socket=path) as server:
        assert await ask(server.url, "ECHO", "hello") == "hello"
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert listening_addresses(server.pid) == set()
        # redis-py has another error for this on a socket than on a port.
        with pytest.raises(redis.exceptions.ConnectionError, match="invalid username-password"):
            await ask(server.url.replace(server.password, "wrong"), "PING")


def test_a_socket_path_that_no_kernel_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Valkey(tmp_path, unix_socket=tmp_path / ("s" * 100))
    assert caught.value.code == "invalid_socket_path"


async def test_a_paused_server_answers_nobody_until_resumed(server: Valkey) -> None:
    server.pause()
    question = asyncio.ensure_future(ask(server.url, "ECHO", "hello"))
    done, _ = await asyncio.wait([question], timeout=0.3)
    assert not done
    server.resume()
    assert await asyncio.wait_for(question, 5) == "hello"


async def test_a_paused_server_can_be_stopped(server: Valkey) -> None:
    server.pause()
    await asyncio.wait_for(server.stop(), 5)
    assert process_gone(server.pid)


async def test_stop_and_kill_do_nothing_to_a_server_that_is_not_running(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    for _ in range(2):
        await server.stop()
        await server.kill()
        await server.start()
        await server.kill()


async def test_a_second_start_is_refused(server: Valkey) -> None:
    with pytest.raises(Conflict) as caught:
        await server.start()
    assert caught.value.code == "embedded_running"
    assert await ask(server.url, "ECHO", "hello") == "hello"


async def test_a_server_that_was_never_started_cannot_be_paused(tmp_path: Path) -> None:
    with pytest.raises(Conflict) as caught:
        Valkey(tmp_path).pause()
    assert caught.value.code == "embedded_not_running"


async def test_two_servers_never_share_a_directory(
    server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embedded.server.LOCK_SECONDS", 0.1)
    other = Valkey(server.data_dir)
    with pytest.raises(Conflict) as caught:
        await other.start()
    assert caught.value.code == "embedded_directory_in_use"
    assert caught.value.hint
    await server.kill()
    async with other:
        assert await ask(other.url, "ECHO", "hello") == "hello"


async def test_the_directory_is_for_its_owner_only(server: Valkey) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.log.stat().st_mode) == 0o600


async def test_it_leads_a_session_of_its_own_so_that_ctrl_c_passes_it_by(server: Valkey) -> None:
    assert os.getsid(server.pid) == server.pid
    assert os.getpgid(server.pid) == server.pid


async def test_a_missing_wheel_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(distribution: str) -> None:
        raise process.importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(process.importlib.metadata, "files", nothing)
    with pytest.raises(Unavailable) as caught:
        await Valkey(tmp_path).start()
    assert caught.value.code == "embedded_missing"
    assert "multipart-gateway[embedded]" in caught.value.hint
    assert not caught.value.retryable


async def test_a_server_that_exits_says_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("rubbish\n")
    server = Valkey(tmp_path)
    with pytest.raises(Unavailable) as caught:
        await server.start()
    assert caught.value.code == "embedded_failed"
    assert "manifest" in caught.value.hint
    assert not server.running


async def test_a_server_that_never_gets_ready_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Valkey) -> bool:
        return False

    monkeypatch.setattr(Valkey, "_is_ready", never)
    monkeypatch.setattr(Valkey, "ready_seconds", 0.2)
    server = Valkey(tmp_path)
    with pytest.raises(Unavailable) as caught:
        await server.start()
    assert caught.value.code == "embedded_failed"
    assert process_gone(server.pid)


async def test_a_start_that_is_cancelled_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def never(_: Valkey) -> bool:
        asked.set()
        return False

    monkeypatch.setattr(Valkey, "_is_ready", never)
    server = Valkey(tmp_path)
    start = asyncio.ensure_future(server.start())
    await asyncio.wait_for(asked.wait(), 5)
    start.cancel()
    await asyncio.wait([start], timeout=5)
    assert start.cancelled()
    assert process_gone(server.pid)


async def test_a_log_that_has_grown_large_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.embedded.server.LOG_BYTES", 100)
    server = Valkey(tmp_path)
    server.log.write_text("old " * 100)
    async with server:
        assert server.log.with_suffix(".log.1").read_text().startswith("old")
        assert "old old" not in server.log.read_text()
