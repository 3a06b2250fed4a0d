"""Reading a file that holds still, and noticing one that does not."""

import os
from pathlib import Path

import pytest

from gateway.client.source import SourceFile
from gateway.core.checksums import ALGORITHMS
from gateway.errors import Conflict, GatewayError, InvalidRequest

LONG_AGO = (10**18 + 7, 10**18 + 7)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    os.utime(path, ns=LONG_AGO)
    return path


def test_pieces_have_the_checksums_of_their_bytes(file: Path) -> None:
    source = SourceFile.open(file)
    data = file.read_bytes()
    for offset, length in ((0, 0), (0, len(data)), (1000, 300_001), (len(data) - 1, 1)):
        found = source.digest(offset, length, ("crc64nvme", "sha256"))
        piece = data[offset : offset + length]
        assert found == tuple(ALGORITHMS[n].value_of(piece) for n in ("crc64nvme", "sha256"))
        assert source.read(offset, length) == piece
    source.close()


@pytest.mark.parametrize("change", ["append", "truncate", "touch"])
def test_a_change_is_noticed(file: Path, change: str) -> None:
    source = SourceFile.open(file)
    source.check()
    if change == "append":
        with file.open("ab") as out:
            out.write(b"x")
        os.utime(file, ns=LONG_AGO)
    elif change == "truncate":
        os.truncate(file, 10)
        os.utime(file, ns=LONG_AGO)
    else:
        os.utime(file)
    for act in (source.check, lambda: source.digest(0, 10, ("crc32",))):
        with pytest.raises(Conflict) as caught:
            act()
        assert caught.value.code == "file_changed"
    source.close()


def test_a_file_cut_short_is_never_read_as_if_it_were_whole(file: Path) -> None:
    source = SourceFile.open(file)
    os.truncate(file, 10)
    with pytest.raises(GatewayError, match="changed"):
        source.read(0, 100)
    source.close()


def test_doubt_arises_when_the_time_was_set_back(file: Path) -> None:
    source = SourceFile.open(file)
    assert not source.doubtful
    with file.open("r+b") as out:
        out.write(b"other")
    os.utime(file, ns=LONG_AGO)
    source.check()
    assert source.doubtful
    source.close()


def test_doubt_arises_for_a_file_written_to_this_very_moment(tmp_path: Path) -> None:
    path = tmp_path / "fresh"
    path.write_bytes(b"x")
    os.utime(path)
    source = SourceFile.open(path)
    assert source.doubtful
    source.close()


def test_reading_ends_soon_when_the_file_is_to_be_closed(file: Path) -> None:
    source = SourceFile.open(file)
    source.stop()
    with pytest.raises(RuntimeError):
        source.digest(0, 10, ("crc32",))
    source.close()
    source.close()


@pytest.mark.parametrize("name", ["folder", "pipe", "missing", "a" * 300, "nul\0"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest) as caught:
        SourceFile.open(tmp_path / name)
    assert caught.value.code == "file_unreadable"
    assert caught.value.hint


def test_names_are_made_fit_for_the_gateway(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/bad\xff\nname\\\xf0\x9f\x8e\x89"
    path = Path(os.fsdecode(raw))
    path.touch()
    source = SourceFile.open(path)
    assert source.name == "bad\ufffd_name_🎉"
    source.close()
