"""The memory budget: nobody gets more than there is, everybody gets a turn, all comes back."""

import asyncio
import random

import pytest

from gateway.core.budget import MemoryBudget
from gateway.errors import Unavailable


async def test_bytes_are_taken_and_come_back() -> None:
    budget = MemoryBudget(10)
    async with budget.taken(4), budget.taken(6):
        assert budget.figures.taken == 10
    assert (budget.figures.taken, budget.figures.peak) == (0, 10)


async def test_who_wants_more_than_is_left_waits_in_line() -> None:
    budget = MemoryBudget(10)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        async with budget.taken(size):
            order.append(name)

    first = await budget.take(8)
    # The small one would fit, but the large one came before it.
    tasks = [asyncio.create_task(take("large", 9)), asyncio.create_task(take("small", 1))]
    await asyncio.sleep(0)
    assert (order, budget.figures.waiting) == ([], 2)
    first.give_back()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_waiting_too_long_is_told_to_come_back() -> None:
    budget = MemoryBudget(10)
    async with budget.taken(10):
        with pytest.raises(Unavailable) as caught:
            await budget.take(1, wait=0.01)
    assert caught.value.code == "memory_budget_exhausted"
    assert caught.value.retry_after
    assert (budget.figures.refused, budget.figures.waiting, budget.figures.taken) == (1, 0, 0)


async def test_who_leaves_the_line_makes_room_for_those_behind() -> None:
    budget = MemoryBudget(10)
    held = await budget.take(8)
    large = asyncio.create_task(budget.take(9))
    small = asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    large.cancel()
    (await small).give_back()
    held.give_back()
    assert budget.figures.taken == 0


async def test_who_is_passed_over_in_the_moment_of_leaving_takes_nothing_along() -> None:
    budget = MemoryBudget(10)
    held = await budget.take(10)
    leaving = asyncio.create_task(budget.take(10))
    staying = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    leaving.cancel()
    held.give_back()
    (await staying).give_back()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (budget.figures.taken, budget.figures.waiting) == (0, 0)


async def test_more_than_the_budget_is_all_of_it() -> None:
    budget = MemoryBudget(10)
    grant = await budget.take(11)
    assert budget.figures.taken == 10
    grant.give_back()
    grant.give_back()
    assert budget.figures.taken == 0


async def test_nothing_is_lost_however_callers_are_cancelled() -> None:
    budget = MemoryBudget(100)
    seeded = random.Random(1)

    async def work() -> None:
        async with budget.taken(seeded.randint(1, 60), wait=5):
            assert budget.figures.taken <= 100
            await asyncio.sleep(seeded.random() / 500)

    tasks = [asyncio.create_task(work()) for _ in range(300)]
    for task in seeded.sample(tasks, 100):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (budget.figures.taken, budget.figures.waiting) == (0, 0)
