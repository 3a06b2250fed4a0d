"""Which headers are those of MRC2014."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import PNG, mrc_header

from gateway.core.content.mrc import HEADER_BYTES, mrc_flaw


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4, 6, 12, 101])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_mode_of_the_format_is_legal_in_either_byte_order(mode: int, order: str) -> None:
    assert mrc_flaw(mrc_header(mode=mode, order=order), None) is None


@pytest.mark.parametrize(
    "stamp",
    ["44440000", "44410000", "44202020", "44000000"],
    ids=["standard", "ccp4", "imod", "first-byte"],
)
def test_machine_stamps_that_programs_write_are_taken(stamp: str) -> None:
    assert mrc_flaw(mrc_header(stamp=bytes.fromhex(stamp)), None) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_empty_stamp_leaves_the_byte_order_to_the_numbers(order: str) -> None:
    assert mrc_flaw(mrc_header(order=order, stamp=bytes(4)), None) is None


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (mrc_header(name=b"MAPS"), "MAP"),
        (mrc_header(name=bytes(4)), "MAP"),
        (mrc_header(stamp=b"\x22\x22\0\0"), "machine stamp"),
        # The numbers are little-endian.
        (mrc_header(stamp=b"\x11\x11\0\0"), "MODE"),
        (mrc_header(mode=5), "MODE"),
        (mrc_header(mode=16), "MODE"),
        (mrc_header(mode=-1), "MODE"),
        (mrc_header(mode=5, stamp=bytes(4)), "MODE"),
        (mrc_header(size=(0, 3, 2)), "dimensions"),
        (mrc_header(size=(4, -3, 2)), "dimensions"),
        (mrc_header(size=(4, 3, 0)), "dimensions"),
        (mrc_header(nsymbt=-80), "NSYMBT"),
        (mrc_header()[:-1], "shorter"),
        (b"", "shorter"),
        (PNG.ljust(HEADER_BYTES, b"\0"), "MAP"),
        (b"MAP " * 256, "machine stamp"),
    ],
)
def test_what_is_no_header_says_why(header: bytes, word: str) -> None:
    said = mrc_flaw(header, None)
    assert said is not None
    assert word in said


def test_big_endian_numbers_that_are_small_are_not_taken_for_little_endian_ones() -> None:
    # Read the wrong way round these are positive as well, but the mode is not one.
    assert "MODE" in str(mrc_flaw(mrc_header(order=">", stamp=b"DD\0\0"), None))


@pytest.mark.parametrize(
    ("size", "right"), [(1024 + 800, True), (10_000, True), (1024 + 799, False), (1024, False)]
)
def test_an_extended_header_fits_into_the_file(size: int, *, right: bool) -> None:
    header = mrc_header(nsymbt=800)
    assert (mrc_flaw(header, size) is None) is right
    assert mrc_flaw(header, None) is None


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES), st.none() | st.integers(0, 1 << 62))
def test_any_bytes_are_judged(head: bytes, size: int | None) -> None:
    assert mrc_flaw(head, size)


@given(
    st.tuples(*[st.integers(1, 2**31 - 1)] * 3),
    st.sampled_from([0, 1, 2, 3, 4, 6, 12, 101]),
    st.integers(0, 2**31 - 1),
    st.sampled_from("<>"),
    st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES),
)
def test_only_the_named_fields_count(
    size: tuple[int, int, int], mode: int, nsymbt: int, order: str, rest: bytes
) -> None:
    header = bytearray(rest)
    right = mrc_header(size=size, mode=mode, nsymbt=nsymbt, order=order)
    for field in (slice(0, 16), slice(92, 96), slice(208, 216)):
        header[field] = right[field]
    assert mrc_flaw(bytes(header), None) is None
    struct.pack_into(f"{order}i", header, 12, 5)
    assert mrc_flaw(bytes(header), None) is not None
