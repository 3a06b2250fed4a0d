"""How a file is cut into parts, within what a store allows.

Pure arithmetic: nothing here knows a session, a store or a network, and the Python client computes
the same plan from the same numbers. A plan says what the lengths must be; it does not promise that
anything has arrived. Sizes, lengths and offsets are in bytes, part numbers start at 1.

S3's limits are those of "Amazon S3 multipart upload limits"
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html), as of December 2025.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeGuard

from gateway.errors import InvalidRequest, TooLarge

MIB = 1024 * 1024
MAX_PART_NUMBER = 10_000
"""S3 numbers parts from 1 to 10,000."""

DEFAULT_PART_SIZE = 8 * MIB
"""Parts are no smaller than this unless somebody asks for it."""
DEFAULT_PART_SIZE_UNKNOWN = 64 * MIB
"""For a file whose size is not known yet: 10,000 parts of it hold 625 GiB."""

_RANGE = re.compile(r"([1-9][0-9]{0,9})(?:-([1-9][0-9]{0,9}))?")


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What a store allows. The defaults are those of Amazon S3.

    The documentation gives the largest object as "48.8 TiB". That is 10,000 parts of 5 GiB, which
    is 53,687,091,200,000 bytes, so this number is taken where it rounds. `equal_parts` says that
    all parts but the last must have one size (Cloudflare R2); every plan made here obeys that
    anyway. The last part of an upload has no minimum.

    Raises ValueError for limits that contradict themselves: they come from a probe or a setting.
    """

    min_part_size: int = 5 * MIB
    max_part_size: int = 5 * 1024 * MIB
    max_parts: int = MAX_PART_NUMBER
    max_object_size: int = MAX_PART_NUMBER * 5 * 1024 * MIB
    equal_parts: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_part_size <= self.max_part_size:
            raise ValueError("A part's sizes must satisfy 1 <= min_part_size <= max_part_size.")
        if not 1 <= self.max_parts <= MAX_PART_NUMBER:
            raise ValueError(f"max_parts must lie between 1 and {MAX_PART_NUMBER}.")
        if self.max_object_size < 1:
            raise ValueError("max_object_size must be positive.")

    @property
    def max_size(self) -> int:
        """The largest file that fits: the object's own limit, or all parts at their largest."""
        return min(self.max_object_size, self.max_part_size * self.max_parts)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Where each part of one file lies: all have `part_size` bytes but the last.

    `size` is None as long as it is unknown; `max_parts` then bounds the part numbers. A file of
    0 bytes has one empty part, since S3 refuses to complete an upload without any.

    Raises ValueError for a plan that is none: what comes from a caller goes through `plan_parts`.
    """

    size: int | None
    part_size: int
    max_parts: int = MAX_PART_NUMBER
    part_count: int | None = field(init=False, repr=False, compare=False)
    """How many parts the whole file has, at least one; None while the size is unknown."""
    last_number: int = field(init=False, repr=False, compare=False)
    """The highest legal part number: that of the last part, or the most the store takes."""

    def __post_init__(self) -> None:
        if self.part_size < 1 or (self.size is not None and self.size < 0):
            raise ValueError("A plan needs a positive part size and no negative size.")
        if not 1 <= self.max_parts <= MAX_PART_NUMBER:
            raise ValueError(f"max_parts must lie between 1 and {MAX_PART_NUMBER}.")
        # Counted once: signing asks for them with every part.
        count = None if self.size is None else max(1, _ceil_div(self.size, self.part_size))
        object.__setattr__(self, "part_count", count)
        object.__setattr__(self, "last_number", count or self.max_parts)
        if self.last_number > self.max_parts:
            raise ValueError("A plan has no more parts than the store takes.")

    def offset(self, number: int) -> int:
        """Where this part starts in the file. Raises InvalidRequest as `check_number` does."""
        self.check_number(number)
        return (number - 1) * self.part_size

    def part_length(self, number: int) -> int | None:
        """Exactly how long this part is; None while the size of the file is unknown.

        Raises InvalidRequest as `check_number` does.
        """
        self.check_number(number)
        if self.size is None:
            return None
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    def check_number(self, number: int) -> None:
        """Raise InvalidRequest (`part_number_out_of_range`) unless this plan has such a part."""
        if not _is_integer(number) or not 1 <= number <= self.last_number:
            raise InvalidRequest(
                "This upload has no such part number.",
                code="part_number_out_of_range",
                hint=f"Part numbers of this upload are whole numbers from 1 to {self.last_number}.",
            )

    def fits(self, number: int, length: int) -> bool:
        """Tell whether this plan has such a part of such a length; quick, for ten thousand."""
        if self.size is not None and 1 <= number < self.last_number:
            return length == self.part_size
        try:
            self.check_length(number, length)
        except InvalidRequest:
            return False
        return True

    def check_length(self, number: int, length: int) -> None:
        """Raise InvalidRequest unless this part may have this length.

        With a known size there is one legal length. With an unknown one, a part is full, or it is
        shorter and thereby the last; an empty part is legal as the only one.
        Codes: `part_number_out_of_range`, `part_length_mismatch`.
        """
        expected = self.part_length(number)
        if expected is not None:
            legal = _is_integer(length) and length == expected
            hint = f"Part {number} of this upload has exactly {expected} bytes."
        else:
            shortest = 0 if number == 1 else 1
            legal = _is_integer(length) and shortest <= length <= self.part_size
            hint = (
                f"Every part has {self.part_size} bytes, but the last, "
                f"which has from {shortest} to {self.part_size}."
            )
        if not legal:
            raise InvalidRequest(
                f"Part {number} cannot have this length.", code="part_length_mismatch", hint=hint
            )


def plan_parts(size: int | None, limits: PartLimits, *, part_size: int | None = None) -> PartPlan:
    """Cut a file of `size` bytes (None: not known yet) into parts that the store accepts.

    By default a part is the smallest whole number of MiB that is at least 8 MiB and large enough
    for the number of parts (a ten-thousandth of the size on S3), and 64 MiB when the size is
    unknown, both moved into the store's limits. A `part_size` that is asked for is taken as it is;
    only a file that fits into one part may have one below the store's minimum.

    Raises InvalidRequest (`size_out_of_range`, `part_size_out_of_range`) and TooLarge
    (`file_too_large`).
    """
    if size is not None:
        _check_size(size, limits.max_size)
    if part_size is None:
        part_size = _default_part_size(size, limits)
    else:
        _check_part_size(part_size, size, limits)
    return PartPlan(size, part_size, limits.max_parts)


def settle_plan(plan: PartPlan, size: int | None, limits: PartLimits) -> PartPlan:
    """Return the final plan once the size is declared: the same part size, and now a last part.

    Needed to complete an upload that was created without a size. Where the size is known already,
    None or the same number returns the plan unchanged. What is stored must then be compared with
    the plan returned: parts past its last number do not belong to a file of that size.

    Raises InvalidRequest (`size_required`, `size_mismatch`, `size_out_of_range`) and TooLarge
    (`file_too_large`).
    """
    if plan.size is not None:
        if size is None or (_is_integer(size) and size == plan.size):
            return plan
        raise InvalidRequest(
            "This is not the size that the upload was created with.",
            code="size_mismatch",
            hint=f"The upload was created for {plan.size} bytes; for another file, create another.",
        )
    if size is None:
        raise InvalidRequest(
            "The size of this file is not known yet.",
            code="size_required",
            hint="Send `size`, the number of bytes of the whole file, with this call.",
        )
    _check_size(size, min(limits.max_size, plan.part_size * plan.max_parts))
    return PartPlan(size, plan.part_size, plan.max_parts)


def missing(plan: PartPlan, present: Iterable[int]) -> list[int]:
    """Return the part numbers that are still to come, in ascending order.

    While the size is unknown these are the gaps below the highest part that is present. Numbers
    outside the plan are passed over.
    """
    known = set(present)
    last = plan.part_count
    if last is None:
        last = max((number for number in known if number <= plan.max_parts), default=0)
    return [number for number in range(1, last + 1) if number not in known]


def format_ranges(numbers: Iterable[int]) -> str:
    """Write part numbers, in any order, as the API does: `3-17,20`; nothing is the empty string."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def parse_ranges(text: str, *, maximum: int) -> list[int]:
    """Read what `format_ranges` writes: ascending, distinct numbers from 1 to `maximum`.

    The order is required, so that neither a short nor a long text costs more than `maximum`
    numbers. Raises InvalidRequest (`invalid_part_ranges`).
    """
    numbers: list[int] = []
    # The longest legal text lists numbers one by one, each followed by a comma.
    if len(text) > maximum * (len(str(maximum)) + 1):
        raise _invalid_ranges(maximum)
    for piece in text.split(",") if text else ():
        match = _RANGE.fullmatch(piece)
        if match is None:
            raise _invalid_ranges(maximum)
        first = int(match[1])
        last = int(match[2] or match[1])
        if not (numbers[-1] if numbers else 0) < first <= last <= maximum:
            raise _invalid_ranges(maximum)
        numbers.extend(range(first, last + 1))
    return numbers


def _default_part_size(size: int | None, limits: PartLimits) -> int:
    if size is None:
        wanted = DEFAULT_PART_SIZE_UNKNOWN
    else:
        wanted = max(DEFAULT_PART_SIZE, _ceil_div(size, limits.max_parts))
    whole = _ceil_div(max(wanted, limits.min_part_size), MIB) * MIB
    # The largest part of a store need not be a whole number of MiB; the size was checked to fit.
    return min(whole, limits.max_part_size)


def _check_size(size: int, maximum: int) -> None:
    if not _is_integer(size) or size < 0:
        raise InvalidRequest(
            "The size of a file is a whole number of bytes, and not negative.",
            code="size_out_of_range",
            hint=f"Send a size from 0 to {maximum} bytes.",
        )
    if size > maximum:
        raise TooLarge(
            "The file is too large.",
            code="file_too_large",
            hint=f"At most {maximum} bytes are taken, by the gateway's settings, the store's limits "
            "or the size of the parts.",
            details={"max_size": maximum},
        )


def _check_part_size(part_size: int, size: int | None, limits: PartLimits) -> None:
    if size is None:
        least = limits.min_part_size
    else:
        # One part holds the whole file and is its last, for which S3 has no minimum.
        several = max(limits.min_part_size, _ceil_div(size, limits.max_parts))
        least = min(several, max(1, size))
    if not _is_integer(part_size) or not least <= part_size <= limits.max_part_size:
        raise InvalidRequest(
            "Parts of this size do not fit this file and this store.",
            code="part_size_out_of_range",
            hint=f"Use parts of {least} to {limits.max_part_size} bytes, or leave the size out.",
            details={"min_part_size": least, "max_part_size": limits.max_part_size},
        )


def _invalid_ranges(maximum: int) -> InvalidRequest:
    return InvalidRequest(
        "These are no ranges of part numbers.",
        code="invalid_part_ranges",
        hint=f"Write ascending numbers from 1 to {maximum}, like 3-17,20.",
    )


def _is_integer(value: object) -> TypeGuard[int]:
    # JSON's true would pass for 1, and 1e3 for 1000.
    return isinstance(value, int) and not isinstance(value, bool)


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
