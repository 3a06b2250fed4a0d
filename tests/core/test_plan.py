"""How files are cut into parts, from 0 bytes to the largest object of S3."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.plan import (
    MAX_PART_NUMBER,
    MIB,
    PartLimits,
    PartPlan,
    format_ranges,
    missing,
    parse_ranges,
    plan_parts,
    settle_plan,
)
from gateway.errors import InvalidRequest, TooLarge

S3 = PartLimits()
# Python itself refuses to print such a number, which an error message must survive.
ENORMOUS = 10**5000
R2 = PartLimits(max_object_size=5 * 1024**4 - 5 * 1024**3, equal_parts=True)
GIB = 1024 * MIB
TIB = 1024 * GIB


@st.composite
def stores(draw: st.DrawFn) -> PartLimits:
    """Limits of any store, real or odd, down to parts of a few bytes."""
    least = draw(st.integers(1, 64 * MIB))
    most = draw(st.integers(least, 5 * GIB))
    parts = draw(st.integers(1, MAX_PART_NUMBER))
    return PartLimits(least, most, parts, draw(st.integers(1, 60 * TIB)))


sizes_on_s3 = st.one_of(st.integers(0, 100 * MIB), st.integers(0, S3.max_size))


def check_invariants(plan: PartPlan, limits: PartLimits) -> None:
    assert plan.size is not None
    count = plan.part_count
    assert count is not None
    assert 1 <= count <= limits.max_parts
    assert plan.part_size <= limits.max_part_size
    # All parts but the last have one length, so three of them stand for 10,000.
    if count > 1:
        assert plan.part_size >= limits.min_part_size
        assert plan.part_length(1) == plan.part_length(count - 1) == plan.part_size
        assert plan.offset(2) == plan.part_size
    last = plan.part_length(count)
    assert last is not None
    assert last <= plan.part_size
    assert last >= 1 or (plan.size == 0 and count == 1)
    assert plan.offset(1) == 0
    assert plan.offset(count) + last == plan.size
    with pytest.raises(InvalidRequest):
        plan.check_number(count + 1)


@given(sizes_on_s3)
def test_every_size_that_s3_takes_has_a_plan_within_its_limits(size: int) -> None:
    check_invariants(plan_parts(size, S3), S3)


@given(stores(), st.integers(0, 60 * TIB))
def test_the_default_plan_obeys_the_limits_of_any_store(limits: PartLimits, size: int) -> None:
    size %= limits.max_size + 1
    check_invariants(plan_parts(size, limits), limits)


@given(stores(), st.integers(0, 60 * TIB), st.integers(1, 6 * GIB))
def test_a_requested_part_size_is_taken_as_it_is_or_refused_with_a_range_that_works(
    limits: PartLimits, size: int, part_size: int
) -> None:
    size %= limits.max_size + 1
    in_one = part_size >= size
    in_several = part_size >= limits.min_part_size and part_size * limits.max_parts >= size
    if part_size <= limits.max_part_size and (in_one or in_several):
        plan = plan_parts(size, limits, part_size=part_size)
        assert plan.part_size == part_size
        check_invariants(plan, limits)
        return
    with pytest.raises(InvalidRequest) as caught:
        plan_parts(size, limits, part_size=part_size)
    assert caught.value.code == "part_size_out_of_range"
    for legal in (caught.value.details["min_part_size"], caught.value.details["max_part_size"]):
        check_invariants(plan_parts(size, limits, part_size=legal), limits)


@given(sizes_on_s3)
def test_the_default_part_is_the_smallest_whole_mib_of_at_least_8_that_gives_10000_parts(
    size: int,
) -> None:
    part_size = plan_parts(size, S3).part_size
    assert part_size % MIB == 0
    assert part_size >= 8 * MIB
    assert part_size * 10_000 >= size
    assert part_size == 8 * MIB or (part_size - MIB) * 10_000 < size


@given(st.integers(0, 200 * MIB), st.integers(5 * MIB, 20 * MIB))
def test_the_lengths_of_all_parts_add_up_to_the_file_and_follow_each_other(
    size: int, part_size: int
) -> None:
    plan = plan_parts(size, S3, part_size=part_size)
    position = 0
    for number in range(1, plan.last_number + 1):
        assert plan.offset(number) == position
        position += plan.part_length(number) or 0
    assert position == size


@pytest.mark.parametrize(
    ("size", "part_size", "count", "last"),
    [
        (0, 8 * MIB, 1, 0),
        (1, 8 * MIB, 1, 1),
        (5 * MIB - 1, 8 * MIB, 1, 5 * MIB - 1),
        (5 * MIB, 8 * MIB, 1, 5 * MIB),
        (5 * MIB + 1, 8 * MIB, 1, 5 * MIB + 1),
        (8 * MIB, 8 * MIB, 1, 8 * MIB),
        (8 * MIB + 1, 8 * MIB, 2, 1),
        (24 * MIB, 8 * MIB, 3, 8 * MIB),
        (80_000 * MIB, 8 * MIB, 10_000, 8 * MIB),
        (80_000 * MIB + 1, 9 * MIB, 8_889, 8 * MIB + 1),
        (5 * TIB, 525 * MIB, 9_987, 230 * MIB),
        (53_687_091_200_000, 5 * GIB, 10_000, 5 * GIB),
    ],
)
def test_known_sizes_are_cut_where_they_should_be(
    size: int, part_size: int, count: int, last: int
) -> None:
    plan = plan_parts(size, S3)
    assert (plan.part_size, plan.part_count, plan.part_length(count)) == (part_size, count, last)


def test_the_largest_object_of_s3_is_48_8_tib_and_not_a_byte_more() -> None:
    assert round(S3.max_size / TIB, 1) == 48.8
    with pytest.raises(TooLarge) as caught:
        plan_parts(S3.max_size + 1, S3)
    assert caught.value.code == "file_too_large"
    assert str(S3.max_size) in caught.value.hint


def test_a_store_with_a_smaller_object_limit_refuses_what_s3_would_take() -> None:
    plan_parts(R2.max_size, R2)
    with pytest.raises(TooLarge):
        plan_parts(R2.max_size + 1, R2)


@pytest.mark.parametrize(
    "size", [-1, True, False, 1.5, "7", pytest.param(-ENORMOUS, id="enormous")]
)
def test_a_size_that_is_no_number_of_bytes_is_refused_with_a_hint(size: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan_parts(size, S3)
    assert caught.value.code == "size_out_of_range"
    assert caught.value.hint


def test_a_size_of_thousands_of_digits_is_refused_like_any_other() -> None:
    with pytest.raises(TooLarge):
        plan_parts(ENORMOUS, S3)


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (100 * MIB, 5 * MIB - 1),
        (100 * MIB, 5 * GIB + 1),
        (100 * GIB, 10 * MIB),
        (None, 5 * MIB - 1),
        (0, 0),
        (10, 9),
        (100 * MIB, -1),
        (100 * MIB, True),
        (100 * MIB, 8.0 * MIB),
        pytest.param(100 * MIB, ENORMOUS, id="enormous"),
    ],
)
def test_a_part_size_outside_the_limits_is_refused_with_a_hint(
    size: int | None, part_size: int
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan_parts(size, S3, part_size=part_size)
    assert caught.value.code == "part_size_out_of_range"
    assert caught.value.hint


def test_a_file_in_one_part_may_have_a_part_below_the_minimum() -> None:
    assert plan_parts(3 * MIB, S3, part_size=3 * MIB).part_count == 1
    assert plan_parts(0, S3, part_size=1).part_length(1) == 0


def test_an_unknown_size_gets_parts_of_64_mib_and_every_number_the_store_takes() -> None:
    plan = plan_parts(None, S3)
    assert (plan.size, plan.part_size, plan.part_count) == (None, 64 * MIB, None)
    assert plan.part_length(10_000) is None
    assert plan.offset(10_000) == 9_999 * 64 * MIB
    with pytest.raises(InvalidRequest):
        plan.check_number(10_001)
    assert plan_parts(None, PartLimits(max_part_size=32 * MIB)).part_size == 32 * MIB
    assert plan_parts(None, PartLimits(min_part_size=100 * MIB)).part_size == 100 * MIB


@pytest.mark.parametrize(
    "number", [0, -1, 4, 10_001, pytest.param(ENORMOUS, id="enormous"), True, 1.0, "1"]
)
def test_a_part_number_outside_the_plan_is_refused_with_the_legal_range(number: int) -> None:
    plan = plan_parts(20 * MIB, S3)
    for use in (plan.check_number, plan.part_length, plan.offset):
        with pytest.raises(InvalidRequest) as caught:
            use(number)
        assert caught.value.code == "part_number_out_of_range"
        assert "from 1 to 3" in caught.value.hint


def test_a_part_of_a_known_file_has_one_legal_length() -> None:
    plan = plan_parts(20 * MIB, S3)
    plan.check_length(1, 8 * MIB)
    plan.check_length(3, 4 * MIB)
    for number, length in [(1, 8 * MIB - 1), (1, 8 * MIB + 1), (3, 8 * MIB), (3, 0), (1, True)]:
        with pytest.raises(InvalidRequest) as caught:
            plan.check_length(number, length)
        assert caught.value.code == "part_length_mismatch"
        assert str(plan.part_length(number)) in caught.value.hint


def test_a_part_of_an_unknown_file_is_full_or_the_last() -> None:
    plan = plan_parts(None, S3)
    for number, length in [(1, 0), (1, 1), (7, 1), (7, 64 * MIB)]:
        plan.check_length(number, length)
    for number, length in [(1, -1), (2, 0), (7, 64 * MIB + 1), (1, True)]:
        with pytest.raises(InvalidRequest) as caught:
            plan.check_length(number, length)
        assert caught.value.code == "part_length_mismatch"


@given(st.integers(0, 64 * MIB * 10_000))
def test_a_declared_size_settles_the_plan_without_moving_a_part(size: int) -> None:
    unknown = plan_parts(None, S3)
    settled = settle_plan(unknown, size, S3)
    assert (settled.size, settled.part_size) == (size, unknown.part_size)
    check_invariants(settled, S3)
    last = settled.last_number
    assert settled.offset(last) == unknown.offset(last)
    length = settled.part_length(last)
    assert length is not None
    unknown.check_length(last, length)


def test_a_size_past_what_the_parts_can_hold_does_not_settle() -> None:
    with pytest.raises(TooLarge):
        settle_plan(plan_parts(None, S3), 64 * MIB * 10_000 + 1, S3)


def test_completing_without_a_size_that_nobody_knows_says_so() -> None:
    with pytest.raises(InvalidRequest) as caught:
        settle_plan(plan_parts(None, S3), None, S3)
    assert caught.value.code == "size_required"


def test_a_known_size_may_be_said_again_but_not_changed() -> None:
    plan = plan_parts(20 * MIB, S3)
    assert settle_plan(plan, None, S3) is plan
    assert settle_plan(plan, 20 * MIB, S3) is plan
    for size in (20 * MIB + 1, -1, 20.0 * MIB):
        with pytest.raises(InvalidRequest) as caught:
            settle_plan(plan, size, S3)  # type: ignore[arg-type]  # a float on purpose
        assert caught.value.code == "size_mismatch"


@pytest.mark.parametrize(
    "limits",
    [
        {"min_part_size": 0},
        {"min_part_size": 2, "max_part_size": 1},
        {"max_parts": 0},
        {"max_parts": 10_001},
        {"max_object_size": 0},
    ],
)
def test_limits_that_contradict_themselves_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        PartLimits(**limits)  # type: ignore[arg-type]  # every case here is a number


@pytest.mark.parametrize(
    ("size", "part_size", "max_parts"),
    [(1, 0, 1), (-1, 1, 1), (3, 1, 2), (1, 1, 0), (1, 1, 10_001)],
)
def test_a_plan_that_does_not_add_up_cannot_be_made(
    size: int, part_size: int, max_parts: int
) -> None:
    with pytest.raises(ValueError, match=r"plan|max_parts"):
        PartPlan(size, part_size, max_parts)


def test_ranges_are_written_as_the_api_shows_them() -> None:
    assert format_ranges([20, *range(17, 2, -1), 20]) == "3-17,20"
    assert format_ranges([]) == ""
    assert format_ranges([1, 2]) == "1-2"


@given(st.sets(st.integers(1, MAX_PART_NUMBER)))
def test_ranges_read_back_give_the_same_numbers(numbers: set[int]) -> None:
    assert parse_ranges(format_ranges(numbers), maximum=MAX_PART_NUMBER) == sorted(numbers)


def test_the_longest_legal_text_is_read() -> None:
    every = list(range(1, MAX_PART_NUMBER + 1))
    assert parse_ranges(",".join(map(str, every)), maximum=MAX_PART_NUMBER) == every
    assert parse_ranges("1", maximum=1) == [1]


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0-3",
        "11",
        "3-11",
        "5-3",
        "3,2",
        "3,3",
        "1-4,4",
        "1-10,1-10",
        ",",
        "1,",
        "1--2",
        "-1",
        "1-",
        "+1",
        "1_0",
        "01",
        " 1",
        "1\n",
        "٣",
        "1.0",
        "a",
        pytest.param("9" * 5000, id="enormous"),
    ],
)
def test_text_that_is_no_list_of_ranges_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_ranges(text, maximum=10)
    assert caught.value.code == "invalid_part_ranges"
    assert "3-17,20" in caught.value.hint


@given(st.text(alphabet="0123456789-,", max_size=40))
def test_any_text_is_either_read_within_the_bound_or_refused(text: str) -> None:
    try:
        numbers = parse_ranges(text, maximum=50)
    except InvalidRequest:
        return
    assert numbers == sorted(set(numbers))
    assert all(1 <= number <= 50 for number in numbers)


@given(st.integers(1, 300), st.sets(st.integers(0, 320)))
def test_missing_and_present_parts_make_up_the_plan(count: int, present: set[int]) -> None:
    plan = PartPlan(count * 8 * MIB, 8 * MIB)
    absent = missing(plan, present)
    assert absent == sorted(absent)
    assert set(absent).isdisjoint(present)
    assert set(absent) | (present & set(range(1, count + 1))) == set(range(1, count + 1))


@given(st.sets(st.integers(1, MAX_PART_NUMBER), max_size=50))
def test_with_an_unknown_size_the_gaps_below_the_highest_part_are_missing(
    present: set[int],
) -> None:
    assume(present)
    absent = missing(plan_parts(None, S3), present)
    assert sorted([*absent, *present]) == list(range(1, max(present) + 1))


def test_nothing_is_known_to_be_missing_before_the_first_part_of_an_unknown_file() -> None:
    assert missing(plan_parts(None, S3), []) == []
    assert missing(plan_parts(0, S3), []) == [1]
