"""Looks at a Redis for `gateway doctor`: whether it answers, keeps what it is told, and has room.

Nothing is changed but a lease of a few seconds. A managed Redis may hide some of its settings; what
is not seen is not complained about.
"""

import time
from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import GatewayError
from gateway.state.redis.client import Client
from gateway.state.redis.leases import RedisLeases

# ZRANDMEMBER, which our scripts use, came with Redis 6.2 (redis.io/docs/latest/commands).
_OLDEST: Final = (6, 2)
_PINGS: Final = 5
_SLOW_SECONDS: Final = 0.02
_NEARLY_FULL: Final = 0.9


@dataclass(frozen=True, slots=True)
class RedisFinding:
    """One row: what was looked at, how it is, what was seen, and what to do about it."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


async def examine(client: Client, *, prefix: str) -> list[RedisFinding]:
    """Return the findings in the order of looking. Never raises for what Redis does or is."""
    try:
        # redis-py makes a dictionary of it, with numbers where it sees some.
        info = {name: str(value) for name, value in (await client.command("INFO")).items()}
        return [
            _version(info),
            _role(info),
            await _latency(client),
            await _scripts(client, prefix),
            _persistence(info),
            _eviction(info),
            _memory(info),
        ]
    except GatewayError as error:
        return [RedisFinding("redis", "fail", error.message, error.hint)]


def _version(info: dict[str, str]) -> RedisFinding:
    name = info.get("server_name", "redis")
    # Valkey tells the Redis version that it is compatible with beside its own.
    own = info.get(f"{name}_version") or info.get("redis_version", "unknown")
    compatible = info.get("redis_version", own)
    numbers = tuple(int(n) for n in compatible.split(".")[:2] if n.isdecimal())
    if numbers and numbers < _OLDEST:
        return RedisFinding(
            "version", "fail", f"{name} {own} is too old.", "Use Redis 6.2 or newer, or Valkey."
        )
    return RedisFinding("version", "ok", f"{name} {own}")


def _role(info: dict[str, str]) -> RedisFinding:
    role = info.get("role", "master")
    if role != "master":
        return RedisFinding(
            "role", "fail", "It is a read-only replica.", "Give redis_url the primary's address."
        )
    return RedisFinding("role", "ok", "It takes writes.")


async def _latency(client: Client) -> RedisFinding:
    times = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await client.command("PING")
        times.append(time.perf_counter() - started)
    typical = sorted(times)[_PINGS // 2]
    detail = f"It answers in {typical * 1000:.1f} ms."
    if typical > _SLOW_SECONDS:
        return RedisFinding(
            "latency", "warn", detail, "Every call waits for it: run it near the gateway."
        )
    return RedisFinding("latency", "ok", detail)


async def _scripts(client: Client, prefix: str) -> RedisFinding:
    try:
        lease = await RedisLeases(client, prefix=prefix).acquire("doctor", seconds=5)
        if lease is not None:
            await lease.release()
    except GatewayError as error:
        return RedisFinding(
            "scripts",
            "fail",
            f"A script fails: {error.message}",
            f"Allow this user EVALSHA, EVAL and writing keys under {prefix}:.",
        )
    return RedisFinding("scripts", "ok", f"Scripts run, and write keys under {prefix}:.")


def _persistence(info: dict[str, str]) -> RedisFinding:
    if info.get("aof_enabled") == "1":
        return RedisFinding("persistence", "ok", "Every change is written to an append-only file.")
    return RedisFinding(
        "persistence",
        "warn",
        "There is no append-only file: a restart forgets the latest progress.",
        "Set appendonly yes. Sessions come back from storage, but more slowly, and clients send "
        "their checksums again.",
    )


def _eviction(info: dict[str, str]) -> RedisFinding:
    policy = info.get("maxmemory_policy")
    if policy is None or policy == "noeviction" or info.get("maxmemory") == "0":
        return RedisFinding("eviction", "ok", "Nothing is thrown out when memory is full.")
    return RedisFinding(
        "eviction",
        "warn",
        f"When memory is full, keys are thrown out ({policy}).",
        "Set maxmemory-policy noeviction, and do not share this Redis with a cache.",
    )


def _memory(info: dict[str, str]) -> RedisFinding:
    used, most = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    if most and used > _NEARLY_FULL * most:
        return RedisFinding(
            "memory",
            "warn",
            f"{used / most:.0%} of its memory is used.",
            "Give it more memory: when it is full, new sessions are refused.",
        )
    limit = f"of {most / 2**20:.0f} MiB" if most else "without a limit"
    return RedisFinding("memory", "ok", f"{used / 2**20:.0f} MiB are used, {limit}.")
