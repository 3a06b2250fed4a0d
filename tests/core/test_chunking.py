"""Which chunks make up which part, and bitmaps: pure arithmetic, against the plain way to say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.chunks.layout import (
    MAX_RANGES,
    ChunkLayout,
    format_gaps,
    gaps,
    has_all,
    has_bit,
    lay_out,
    unbroken,
)
from gateway.core.plan import MIB, PartLimits, format_ranges, plan_parts
from gateway.errors import TooLarge

S3 = PartLimits()
totals = st.integers(1, 300_000)
sizes = st.integers(1, 64 * MIB)


def bitmap(numbers: set[int]) -> bytes:
    bits = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 0x80 >> number % 8
    return bytes(bits)


@given(totals, sizes)
def test_parts_are_equal_legal_and_not_too_many(total: int, size: int) -> None:
    layout = lay_out(total, size, S3)
    assert layout.part_count <= S3.max_parts
    assert layout.part_size == layout.per_part * size
    assert layout.part_count == 1 or S3.min_part_size <= layout.part_size <= S3.max_part_size


@given(totals, sizes)
def test_every_chunk_is_in_one_part_in_order(total: int, size: int) -> None:
    layout = lay_out(total, size, S3)
    assert layout.chunks_of(1).start == 0
    assert layout.chunks_of(layout.part_count).stop == total
    for number in {1, 2, layout.part_count // 2, layout.part_count} - {0}:
        indexes = layout.chunks_of(number)
        if number < layout.part_count:
            assert len(indexes) == layout.per_part
            assert indexes.stop == layout.chunks_of(number + 1).start
        if indexes:
            assert layout.number_of(indexes[0]) == layout.number_of(indexes[-1]) == number


@given(totals, sizes, st.data())
def test_the_parts_are_those_of_a_plan_of_the_file(
    total: int, size: int, data: st.DataObject
) -> None:
    layout = lay_out(total, size, S3)
    last = data.draw(st.integers(1, size))
    plan = plan_parts(layout.file_size(last), S3, part_size=None)
    assert plan.size == layout.file_size(last)
    if layout.part_count > 1:
        chosen = plan_parts(layout.file_size(last), S3, part_size=layout.part_size)
        assert chosen.part_count == layout.part_count
        assert chosen.offset(2) == layout.chunks_of(2).start * size


@pytest.mark.parametrize(
    ("total", "size", "per_part"),
    [
        (1, 10, 1),
        (100, MIB, 8),
        (100, 5_000_000, 2),
        (100, 5 * MIB, 1),
        (100, 8 * MIB, 1),
        (10_000, 5 * MIB, 1),
        # More chunks than a file has parts: the rule of architecture's "More than 10,000 work".
        (10_001, 5 * MIB, 2),
        (100_000, MIB, 10),
        (12_000, 10, 838_861),
    ],
)
def test_a_part_takes_as_many_chunks_as_the_rule_says(total: int, size: int, per_part: int) -> None:
    assert lay_out(total, size, S3).per_part == per_part


@pytest.mark.parametrize(
    ("total", "size", "code"),
    [
        (1, 6 * 1024 * MIB, "chunk_too_large"),
        (1_000_000, 1024 * MIB, "file_too_large"),
    ],
)
def test_what_fits_nowhere_is_refused(total: int, size: int, code: str) -> None:
    with pytest.raises(TooLarge) as caught:
        lay_out(total, size, S3)
    assert caught.value.code == code


def test_a_file_beyond_the_policys_size_is_refused_with_its_first_chunk() -> None:
    lay_out(10, 10, PartLimits(max_object_size=91))
    with pytest.raises(TooLarge):
        lay_out(10, 10, PartLimits(max_object_size=90))


numbers = st.sets(st.integers(0, 200))


@given(numbers, st.integers(0, 220))
def test_gaps_are_the_numbers_that_a_bitmap_lacks(present: set[int], count: int) -> None:
    lacking = [number for number in range(count) if number not in present]
    assert [number for gap in gaps(bitmap(present), count) for number in gap] == lacking
    assert format_gaps(bitmap(present), count) == format_ranges(lacking)


@given(numbers)
def test_the_unbroken_run_ends_at_the_first_gap(present: set[int]) -> None:
    first = next(number for number in range(202) if number not in present)
    assert unbroken(bitmap(present)) == first


@given(numbers, st.integers(0, 220), st.integers(0, 40))
def test_a_range_is_there_when_each_of_it_is(present: set[int], start: int, length: int) -> None:
    wanted = range(start, start + length)
    assert has_all(bitmap(present), wanted) == all(n in present for n in wanted)
    assert all(has_bit(bitmap(present), n) == (n in present) for n in wanted)


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_ready_are_parts_with_all_chunks_that_are_not_written(
    total: int, per_part: int, data: st.DataObject
) -> None:
    layout = ChunkLayout(total, 10, per_part)
    chunks = data.draw(st.sets(st.integers(0, total - 1)))
    parts = data.draw(st.sets(st.integers(1, layout.part_count)))
    ready = layout.ready(bitmap(chunks), bitmap({number - 1 for number in parts}))
    assert list(ready) == [
        number
        for number in range(1, layout.part_count + 1)
        if number not in parts and chunks.issuperset(layout.chunks_of(number))
    ]


def test_no_more_gaps_are_written_than_somebody_reads() -> None:
    assert format_gaps(b"\xaa" * 2000, 16_000).count(",") == MAX_RANGES - 1
