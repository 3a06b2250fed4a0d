"""Rows 33 to 35: thousands of parts, and sizes at which a plan could be off by one.

10,000 parts are stubs, as that is 49 GiB (`tests/core/test_many_parts.py` has the event loop's side
of it); 1,001 are real ones of a byte, which no store would complete.
"""

import asyncio
import hashlib
import os
from dataclasses import replace

import pytest
from stack import Stack, acknowledge_all, put_parts

from gateway.core.access import Principal
from gateway.core.model import Acknowledged, NewUpload, PartToSign, State
from gateway.core.plan import PartLimits
from gateway.errors import InvalidRequest, NoSuchUpload

ALICE = Principal("alice")
PART_SIZE = 5 * 1024 * 1024
# S3 lists a thousand a page.
OVER_A_PAGE = 1001
AT_A_TIME = 50


async def test_row_33_more_than_a_thousand_parts_are_all_found(stack: Stack) -> None:
    # What the store takes before Complete has no minimum.
    stack.ports.storage.limits = replace(
        stack.ports.storage.limits, parts=PartLimits(min_part_size=1)
    )
    service = stack.core.service
    data = os.urandom(OVER_A_PAGE)
    session, _ = await service.create(ALICE, NewUpload("a.bin", size=len(data), part_size=1))
    for first in range(1, OVER_A_PAGE + 1, AT_A_TIME):
        numbers = range(first, min(first + AT_A_TIME, OVER_A_PAGE + 1))
        sent = await asyncio.gather(*(put_parts(stack, ALICE, session, data, n) for n in numbers))
        await acknowledge_all(stack, ALICE, session, [part for [part] in sent])

    await stack.empty_redis()

    found = await service.get(ALICE, session.session_id)
    assert found.progress.numbers() == [*range(1, OVER_A_PAGE + 1)]
    assert [part.number for part in await service.parts(ALICE, session.session_id)] == [
        *range(1, OVER_A_PAGE + 1)
    ]
    # No page is left behind either.
    await service.abort(ALICE, session.session_id)
    with pytest.raises(NoSuchUpload):
        _ = [part async for part in stack.ports.storage.list_parts(session.upload)]


@pytest.mark.parametrize("number", [10_001, 0, -1])
async def test_row_34_a_part_beyond_the_ten_thousandth_is_refused(
    stack: Stack, number: int
) -> None:
    service = stack.core.service
    for size in (10_000 * PART_SIZE, None):
        session, _ = await service.create(ALICE, NewUpload("a", size=size, part_size=PART_SIZE))
        assert session.plan.last_number == 10_000
        assert len(await service.sign(ALICE, session.session_id, [PartToSign(10_000)])) == 1
        with pytest.raises(InvalidRequest) as caught:
            await service.sign(ALICE, session.session_id, [PartToSign(number)])
        assert caught.value.code == "part_number_out_of_range"
        with pytest.raises(InvalidRequest) as caught:
            await service.acknowledge(ALICE, session.session_id, [Acknowledged(number, "etag")])
        assert caught.value.code == "part_number_out_of_range"
    with pytest.raises(InvalidRequest):
        await service.create(
            ALICE, NewUpload("a", size=10_000 * PART_SIZE + 1, part_size=PART_SIZE)
        )


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (0, 1),
        (1, 1),
        (PART_SIZE - 1, 1),
        (PART_SIZE, 1),
        (PART_SIZE + 1, 2),
        (2 * PART_SIZE, 2),
    ],
)
async def test_row_35_a_file_of_any_size_has_the_right_plan(
    stack: Stack, size: int, parts: int
) -> None:
    data = os.urandom(size)
    session, _ = await stack.core.service.create(
        ALICE, NewUpload("a.bin", size=size, part_size=PART_SIZE)
    )
    assert session.plan.part_count == parts
    await acknowledge_all(stack, ALICE, session, await put_parts(stack, ALICE, session, data))
    done = await stack.core.service.complete(ALICE, session.session_id, wait=30)
    assert done.state is State.COMPLETED
    found = await stack.read_object(done)
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()
