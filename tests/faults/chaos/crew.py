"""The clients of a run: some at a time, each taking the next file as soon as it is through.

Which files there are, who takes them and how is drawn from the seed; when each begins depends on
how long those before it took.
"""

import asyncio
import random
from collections import Counter

import aiohttp
from faults.chaos.calls import Caller
from faults.chaos.library import OwnClient, choose_interruptions, command_line, library
from faults.chaos.manners import choose_manners
from faults.chaos.raw import RawClient
from faults.chaos.world import World

# A Python process takes so long to begin, with the machine as busy as it is here.
_COMMAND_BEGINS = 1.0


class Crew:
    """Clients at work until `calm`, and then until each is through with its file."""

    def __init__(
        self, world: World, seed: int, *, clients: int, rest: float, patience: float
    ) -> None:
        """`rest` is the longest pause between files, `patience` a raw client's time for one."""
        self.endings: Counter[str] = Counter()
        self.bytes = 0
        self._world = world
        self._seed = seed
        self._clients = clients
        self._rest = rest
        self._patience = patience

    async def run(self) -> None:
        """Work until the run is calm; raises what a client did not expect."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._clients):
                group.create_task(self._work(http, number))

    async def _work(self, http: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(f"client {number} {self._seed}")
        turn = 0
        while not self._world.calm.is_set():
            turn += 1
            await self._one(http, random.Random(rng.getrandbits(64)), f"{number}-{turn}.bin")
            await asyncio.sleep(rng.uniform(0, self._rest))

    async def _one(self, http: aiohttp.ClientSession, rng: random.Random, name: str) -> None:
        world, history = self._world, self._world.history
        source = world.material.source(rng, name)
        self.bytes += source.size
        deadline = history.now + self._patience
        who = rng.choices(["raw", "library", "command line"], weights=[76, 18, 6])[0]
        facts = {"name": name, "who": who, "size": source.size, "offset": source.offset}
        if who == "raw":
            manners = choose_manners(rng)
            history.note("begin", **facts, declared=manners.declared, ending=manners.ending)
            client = RawClient(world, Caller(world, http, name), source, rng, manners, deadline)
            outcome = await client.run()
        else:
            begins = 0.0 if who == "library" else _COMMAND_BEGINS
            plan = choose_interruptions(rng, source, begins)
            history.note("begin", **facts, declared=None, ending="complete")
            own = OwnClient(world, source, rng, plan)
            outcome = await own.run(library if who == "library" else command_line)
        self.endings[f"{who}: {outcome}"] += 1
        history.note("end", name=name, outcome=outcome)
