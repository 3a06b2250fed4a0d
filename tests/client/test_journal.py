"""The journal under everything that disks and processes do to a file."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.client.journal import MAX_AGE, Journal, PartRecord, state_directory
from gateway.errors import Conflict

SERVER = "http://127.0.0.1:8000"
MARK = "gw1-abc"


def write_journal(directory: Path, parts: int = 3) -> Path:
    journal = Journal.open(directory, SERVER, MARK)
    journal.start("a" * 32)
    for number in range(1, parts + 1):
        journal.add({number: PartRecord(f"etag-{number}", f"sum-{number}")})
    journal.sync()
    journal.close()
    return journal.path


def read(directory: Path) -> Journal:
    journal = Journal.open(directory, SERVER, MARK)
    journal.close()
    return journal


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    write_journal(tmp_path)
    entry = read(tmp_path).entry
    assert entry is not None
    assert entry.session_id == "a" * 32
    assert entry.parts == {n: PartRecord(f"etag-{n}", f"sum-{n}") for n in (1, 2, 3)}


def test_a_new_session_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write_journal(tmp_path)
    journal = Journal.open(tmp_path, SERVER, MARK)
    journal.start("b" * 32)
    journal.add({7: PartRecord("e", "c")})
    journal.close()
    entry = read(tmp_path).entry
    assert entry is not None
    assert (entry.session_id, set(entry.parts)) == ("b" * 32, {7})


def test_a_part_noted_twice_has_its_last_record(tmp_path: Path) -> None:
    write_journal(tmp_path)
    journal = Journal.open(tmp_path, SERVER, MARK)
    journal.add({2: PartRecord("newer", "sum")})
    journal.close()
    entry = read(tmp_path).entry
    assert entry is not None
    assert entry.parts[2] == PartRecord("newer", "sum")


def test_other_servers_and_files_have_journals_of_their_own(tmp_path: Path) -> None:
    write_journal(tmp_path)
    for server, mark in ((SERVER, "gw1-def"), ("http://127.0.0.1:8001", MARK)):
        other = Journal.open(tmp_path, server, mark)
        assert other.entry is None
        other.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_torn_anywhere_keeps_what_came_before_and_takes_more(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = write_journal(tmp_path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    journal = Journal.open(tmp_path, SERVER, MARK)
    if lines == 0:
        assert journal.entry is None
        journal.start("a" * 32)
    else:
        assert journal.entry is not None
        assert set(journal.entry.parts) == set(range(1, lines))
    journal.add({9: PartRecord("later", "sum")})
    journal.close()
    entry = read(tmp_path).entry
    assert entry is not None
    assert set(entry.parts) == {*range(1, max(lines, 1)), 9}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damaged_byte_ever_makes_a_false_record(tmp_path: Path, data: st.DataObject) -> None:
    path = write_journal(tmp_path)
    damaged = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    entry = read(tmp_path).entry
    if entry is not None:
        assert entry.session_id == "a" * 32
        for number, record in entry.parts.items():
            assert record == PartRecord(f"etag-{number}", f"sum-{number}")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rubbish=st.binary(max_size=300))
def test_rubbish_is_ignored(tmp_path: Path, rubbish: bytes) -> None:
    path = write_journal(tmp_path)
    path.write_bytes(rubbish)
    assert read(tmp_path).entry is None


def test_damage_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_journal(tmp_path).write_bytes(b"rubbish")
    read(tmp_path)
    assert "damaged" in caplog.text


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    path = write_journal(directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    path.unlink()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    journal = Journal.open(tmp_path, SERVER, MARK)
    journal.start("b" * 32)
    journal.close()
    assert victim.read_text() == "precious"


def test_a_journal_in_use_refuses_a_second_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.client.journal.LOCK_PATIENCE", 0.1)
    journal = Journal.open(tmp_path, SERVER, MARK)
    with pytest.raises(Conflict) as caught:
        Journal.open(tmp_path, SERVER, MARK)
    assert caught.value.code == "upload_running"
    journal.close()
    read(tmp_path)


def test_a_process_that_dies_gives_its_journal_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_die_with_the_lock, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 9
    entry = read(tmp_path).entry
    assert entry is not None
    assert set(entry.parts) == {1}


def _die_with_the_lock(directory: Path) -> None:
    journal = Journal.open(directory, SERVER, MARK)
    journal.start("a" * 32)
    journal.add({1: PartRecord("e", "c")})
    os._exit(9)


def test_a_finished_upload_leaves_nothing(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    journal = Journal.open(tmp_path, SERVER, MARK)
    journal.remove()
    assert not path.exists()


def test_a_journal_that_was_deleted_meanwhile_is_made_anew(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    first = Journal.open(tmp_path, SERVER, MARK)
    path.unlink()
    # The first one's lock is on a file that nobody can find any more.
    second = Journal.open(tmp_path, SERVER, MARK)
    assert second.entry is None
    second.start("b" * 32)
    second.close()
    first.close()
    assert path.exists()


def test_old_journals_are_thrown_away(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    old = path.stat().st_mtime - MAX_AGE - 60
    os.utime(path, (old, old))
    other = Journal.open(tmp_path, SERVER, "gw1-def")
    other.close()
    assert not path.exists()


def test_without_a_folder_everything_works_and_nothing_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("no folder")
    journal = Journal.open(tmp_path / "state", SERVER, MARK)
    journal.start("a" * 32)
    journal.add({1: PartRecord("e", "c")})
    journal.sync()
    journal.remove()
    assert journal.entry is not None
    assert "No journal can be kept" in caplog.text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"GW_STATE_DIR": "/x/y", "XDG_STATE_HOME": "/z"}, "/x/y"),
        ({"XDG_STATE_HOME": "/z"}, "/z/gateway"),
        ({"XDG_STATE_HOME": "relative"}, str(Path.home() / ".local/state/gateway")),
        ({}, str(Path.home() / ".local/state/gateway")),
    ],
)
def test_it_lies_where_the_environment_says(environ: dict[str, str], expected: str) -> None:
    assert str(state_directory(environ)) == expected


def test_a_note_that_comes_after_the_end_is_written_nowhere(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    before = path.read_bytes()
    journal = Journal.open(tmp_path, SERVER, MARK)
    journal.close()
    # The next file that is opened gets the descriptor that the journal had.
    with (tmp_path / "other").open("w+b") as other:
        journal.add({9: PartRecord("late", "sum")})
        journal.sync()
        journal.remove()
        other.seek(0)
        assert other.read() == b""
    assert path.read_bytes() == before
