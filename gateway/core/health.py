"""Whether the dependencies are well: one question to each, within a bound."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.core.ports import ObjectStore, SessionStore
from gateway.errors import GatewayError, NoSuchObject


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a dependency is well, and in a few words how."""

    ok: bool
    detail: str


async def check(
    sessions: SessionStore, objects: ObjectStore, bucket: str, seconds: float
) -> dict[str, Check]:
    """Ask Redis and the store side by side; the store's answer tells of the clock, too."""
    redis, store = await asyncio.gather(
        _ask(sessions.ping(), seconds), _ask(_head(objects, bucket), seconds)
    )
    # A store refuses signatures of a clock that is 15 minutes off, and answers otherwise.
    skewed = store.detail == "clock_skewed"
    return {
        "redis": redis,
        "store": Check(ok=True, detail="ok") if skewed else store,
        "clock": Check(ok=not skewed, detail="clock_skewed" if skewed else "ok"),
    }


async def _head(objects: ObjectStore, bucket: str) -> None:
    with suppress(NoSuchObject):
        await objects.head(bucket, ".gateway/health")


async def _ask(question: Coroutine[Any, Any, None], seconds: float) -> Check:
    try:
        async with asyncio.timeout(seconds):
            await question
    except TimeoutError:
        return Check(ok=False, detail="timeout")
    except GatewayError as error:
        return Check(ok=False, detail=error.code)
    return Check(ok=True, detail="ok")
