"""Whose body is read next, and that nobody keeps out everybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiohttp import web
from gateways import Serving, serving
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unavailable
from gateway.web.bodies import iter_body
from gateway.web.turns import TURNS, Turns, client_of, in_turn

AT_ONCE = 10
MOST = 8


async def hold(stack: AsyncExitStack, turns: Turns, client: str, count: int) -> None:
    for _ in range(count):
        await stack.enter_async_context(turns.taken(client))


async def test_one_client_leaves_room_for_others_who_need_not_wait() -> None:
    turns = Turns(at_once=AT_ONCE, patience=0.05)
    async with AsyncExitStack() as stack:
        await hold(stack, turns, "greedy", MOST)
        with pytest.raises(Unavailable) as raised:
            await hold(stack, turns, "greedy", 1)
        assert (raised.value.code, raised.value.retryable) == ("too_many_parts_in_flight", True)
        await hold(stack, turns, "modest", 1)
    # All were given back, and the one who gave up waits no longer.
    async with AsyncExitStack() as stack:
        await hold(stack, turns, "greedy", MOST)


async def test_whoever_waits_is_served_in_turn_with_the_others() -> None:
    turns = Turns(at_once=1)
    served: list[str] = []

    async def one(client: str) -> None:
        async with turns.taken(client):
            served.append(client)

    async with turns.taken("first") as turn, asyncio.TaskGroup() as group:
        for client in ("greedy", "greedy", "greedy", "modest"):
            group.create_task(one(client))
        await asyncio.sleep(0)
        assert served == []
        turn.give_back()
        turn.give_back()
    assert served == ["greedy", "modest", "greedy", "greedy"]


async def test_the_line_is_bounded_and_no_client_fills_it() -> None:
    turns = Turns(at_once=1, waiting=AT_ONCE)

    async def one(client: str) -> None:
        async with turns.taken(client):
            pass

    async with asyncio.TaskGroup() as group, turns.taken("first"):
        for _ in range(MOST):
            group.create_task(one("greedy"))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await one("greedy")
        group.create_task(one("modest"))
        await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await one("greedy")


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "take", "end", "cancel"])),
        max_size=40,
    )
)
async def test_no_turn_is_lost_whoever_comes_goes_or_gives_up(steps: list[tuple[str, str]]) -> None:
    turns = Turns(at_once=3, waiting=6)
    tasks: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def one(client: str, end: asyncio.Event) -> None:
        try:
            async with turns.taken(client):
                await end.wait()
        except Unavailable:
            assert len(tasks) > 1

    for client, step in steps:
        if step == "take":
            end = asyncio.Event()
            tasks.append((asyncio.create_task(one(client, end)), end))
        elif tasks:
            task, end = tasks[len(tasks) // 2]
            end.set() if step == "end" else task.cancel()
        if step != "cancel":
            await asyncio.sleep(0)
    for task, end in tasks:
        end.set()
        task.cancel()
    await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    async with AsyncExitStack() as stack, asyncio.timeout(1):
        await hold(stack, turns, "a", 2)
        await hold(stack, turns, "b", 1)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(peer: str | None, client: str) -> None:
    assert client_of(peer) == client


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Serving]:
    async def take(request: web.Request) -> web.Response:
        async for _ in iter_body(request):
            pass
        # What comes behind the body is nobody else's business.
        async with asyncio.timeout(5):
            async with request.app[TURNS].taken("127.0.0.1"):
                return web.Response()

    app = web.Application()
    app[TURNS] = Turns(at_once=1, patience=0.05)
    async with serving(routes=[web.put("/file", in_turn(take))], app=app) as running:
        yield running


async def test_a_turn_lasts_until_the_body_has_been_read(gateway: Serving) -> None:
    _, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome")
    await writer.drain()
    async with asyncio.timeout(10):
        # It has its turn, sooner or later, and nobody else of this address.
        while (await gateway.client.put("/file", data=b"short")).status == 200:
            pass
        writer.write(b"bytes")
        await writer.drain()
        while (await gateway.client.put("/file", data=b"short")).status != 200:
            pass
    writer.close()
    await writer.wait_closed()
