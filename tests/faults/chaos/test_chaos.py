"""Random clients, faults and kills, drawn from a seed, and a judge over their history.

    pytest -n 0 -m chaos --seed 7                          the schedule of seed 7, some seconds
    pytest -n 0 -m chaos --seed 7 --chaos-seconds 1800     half an hour of it

A seed fixes the schedule alone: files, clients and what they do, faults and when they come. How
they meet is up to the machine, so a failure may need several runs to come again; its history, whose
path is printed, has every call and answer.
"""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from faults.chaos.crew import Crew
from faults.chaos.disasters import Disasters, draw_disasters, draw_mishaps
from faults.chaos.history import History
from faults.chaos.judge import Judge, Verdict
from faults.chaos.logs import examine
from faults.chaos.material import Material
from faults.chaos.world import SECRET, TOKEN, World, running_world

pytestmark = pytest.mark.chaos

MIB = 1024 * 1024
# A gateway at rest takes some 100 MiB, nearly all of it code.
_RESIDENT_GROWTH = 80 * MIB
_MEASURE_EVERY = 1.0


async def test_promises_hold_whatever_happens(
    chaos_seed: int, chaos_seconds: float, tmp_path: Path, record_property: Any
) -> None:
    history = History(tmp_path / "history.jsonl")
    again = f"pytest -n 0 -m chaos --seed {chaos_seed} --chaos-seconds {chaos_seconds:g}"
    # Shown with any failure, that of a client or of a server that does not come up, too.
    print(f"The same schedule again: {again}\nThe history: {history.path}")  # noqa: T201
    rng = random.Random(chaos_seed)
    disasters = draw_disasters(rng, chaos_seconds, every=2.5)
    mishaps = draw_mishaps(rng, chaos_seconds, every=0.25)
    material = Material(chaos_seed)
    # Long enough for most uploads, short enough for some to expire within the run.
    lifetime = min(20.0, max(8.0, chaos_seconds / 2))
    try:
        async with running_world(
            tmp_path, history, material, lifetime=lifetime, grace=2.0
        ) as world:
            storm = Disasters(world)
            crew = Crew(world, chaos_seed, clients=8, rest=0.5, patience=40.0)
            await _run(world, crew, storm.run(disasters, mishaps), chaos_seconds)
            storm.lift()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
                verdict = await Judge(world, history, http).judge()
            await _look_at_gateways(world, verdict)
    finally:
        history.close()
    for gateway in world.gateways:
        wrongs, warnings = await asyncio.to_thread(examine, gateway.log, _secrets(world))
        verdict.wrongs += wrongs
        verdict.figures[f"warnings of gateway {gateway.number}"] = dict(warnings)
    summary = _summary(chaos_seed, chaos_seconds, verdict, crew, storm)
    record_property("chaos", summary)
    assert not verdict.wrongs, "\n".join(
        [
            f"{len(verdict.wrongs)} promises broken. The same schedule again: {again}",
            f"The history: {history.path}",
            *verdict.wrongs[:40],
            summary,
        ]
    )


async def _run(world: World, crew: Crew, storm: Coroutine[Any, Any, None], seconds: float) -> None:
    """Let clients and faults at each other, lift all faults, and let the clients end."""
    measuring = asyncio.create_task(_measure(world))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(crew.run())
            end = world.history.now + seconds
            await storm
            await asyncio.sleep(max(0.0, end - world.history.now))
            world.proxy.clear()
            await world.wait_until_ready()
            world.history.note("fault", kind="all lifted")
            world.calm.set()
    finally:
        measuring.cancel()
        await asyncio.wait([measuring])


async def _measure(world: World) -> None:
    while True:
        for gateway in world.gateways:
            gateway.measure()
        await asyncio.sleep(_MEASURE_EVERY)


async def _look_at_gateways(world: World, verdict: Verdict) -> None:
    if not await world.is_ready():
        verdict.wrongs.append("Not every gateway is ready at the end.")
    for gateway in world.gateways:
        gateway.measure()
        first, last, most = gateway.resident[0], gateway.resident[-1], max(gateway.resident)
        figures = [round(value / MIB) for value in (first, most, last)]
        verdict.figures[f"MiB of gateway {gateway.number}, first, most, last"] = figures
        if last > first + _RESIDENT_GROWTH:
            verdict.wrongs.append(f"Gateway {gateway.number} grew from {first} to {last} bytes.")
        code = await gateway.stop()
        if code != 0:
            verdict.wrongs.append(f"Gateway {gateway.number} ended {code} after SIGTERM.")


def _secrets(world: World) -> dict[str, str]:
    return {
        "the token": TOKEN,
        "the store's secret": SECRET,
        "Valkey's password": world.valkey.password,
        "a presigned query": "X-Amz-Signature=",
    }


def _summary(seed: int, seconds: float, verdict: Verdict, crew: Crew, storm: Disasters) -> str:
    rows: dict[str, Any] = {
        "seed": seed,
        "seconds": seconds,
        "states": dict(verdict.states),
        **verdict.figures,
        "MB of files": round(crew.bytes / 1e6, 1),
        "clients": dict(crew.endings),
        "disasters": dict(storm.counts),
        "faults of calls": dict(storm.struck.most_common()),
        "faults of calls in all": storm.struck.total(),
    }
    return "\n".join(f"  {name}: {value}" for name, value in rows.items())
