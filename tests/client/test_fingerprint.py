"""What a fingerprint notices, and what it reads for that."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.client.fingerprint import EDGE, SAMPLE, SAMPLES, fingerprint, sampled
from gateway.client.source import SourceFile

BIG = 4 << 20


def fingerprint_of(path: Path) -> str:
    source = SourceFile.open(path)
    try:
        return fingerprint(source)
    finally:
        source.close()


def write(path: Path, data: bytes, *, time: int = 10**18) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(time, time))
    return path


@given(st.integers(0, 60 * 2**40))
def test_samples_lie_in_the_file_in_order_and_are_few(size: int) -> None:
    pieces = sampled(size)
    end = 0
    for offset, length in pieces:
        assert offset >= end
        assert length > 0
        end = offset + length
    assert end == size or (end == 0 and size == 0)
    assert sum(length for _, length in pieces) <= 2 * EDGE + SAMPLES * SAMPLE


@given(st.integers(2 * EDGE + SAMPLES * SAMPLE + 1, 60 * 2**40))
def test_large_files_are_sampled_at_both_ends_and_between(size: int) -> None:
    pieces = sampled(size)
    assert pieces[0] == (0, EDGE)
    assert pieces[-1] == (size - EDGE, EDGE)
    assert len(pieces) == SAMPLES + 2


def test_a_copy_elsewhere_has_the_same_fingerprint(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "film.mkv", b"x" * BIG)
    second = write(tmp_path / "b" / "film.mkv", b"x" * BIG)
    assert fingerprint_of(first) == fingerprint_of(second)


def test_name_size_time_and_samples_all_count(tmp_path: Path) -> None:
    data = bytes(BIG)
    made = {fingerprint_of(write(tmp_path / "a" / "film", data))}
    made.add(fingerprint_of(write(tmp_path / "a" / "other", data)))
    made.add(fingerprint_of(write(tmp_path / "a" / "film", data + b"\0")))
    made.add(fingerprint_of(write(tmp_path / "a" / "film", data, time=10**18 + 1)))
    for offset, length in sampled(BIG):
        for position in (offset, offset + length - 1):
            changed = bytearray(data)
            changed[position] = 1
            made.add(fingerprint_of(write(tmp_path / "a" / "film", changed)))
    assert len(made) == 4 + 2 * len(sampled(BIG))


def test_it_fits_the_gateways_limit_whatever_the_name(tmp_path: Path) -> None:
    value = fingerprint_of(write(tmp_path / "a" / ("é" * 120), b""))
    assert len(value) == 68
    assert value.isascii()
    assert value.startswith("gw1-")
