"""Looks at a Redis for `gateway doctor`: whether it answers, keeps what it is told, and has room.

Nothing is changed but a lease of a few seconds. A managed Redis may hide some of its settings; what
is not seen is not complained about.
"""

import time
from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import GatewayError, reason_of
from gateway.state.redis.client import Client
from gateway.state.redis.errors import clustered
from gateway.state.redis.leases import RedisLeases

# ZRANDMEMBER, which our scripts use, came with Redis 6.2 (redis.io/docs/latest/commands).
_OLDEST: Final = (6, 2)
# What the README asks for; older ones are not tried.
_TRIED: Final = (7, 0)
_PINGS: Final = 5
_SLOW_SECONDS: Final = 0.02
_NEARLY_FULL: Final = 0.9
_FEWEST_SENTINELS: Final = 3


@dataclass(frozen=True, slots=True)
class RedisFinding:
    """One row: what was looked at, how it is, what was seen, and what to do about it."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


_HIDDEN: Final = RedisFinding(
    "info",
    "warn",
    "This user may not ask for its version, role, persistence and memory (INFO).",
    "Allow it INFO: without it, only an empty Redis is rebuilt, not one that lost a part.",
)


async def examine(client: Client, *, prefix: str) -> list[RedisFinding]:
    """Return the findings in the order of looking. Never raises for what Redis does or is."""
    try:
        info = await _info(client)
        if info is None:
            return [
                *await _sentinels(client),
                await _latency(client),
                await _scripts(client, prefix),
                _HIDDEN,
            ]
        return [
            _version(info),
            *await _cluster(client, info),
            *await _sentinels(client),
            _role(info),
            await _latency(client),
            await _scripts(client, prefix),
            _persistence(info, await _setting(client, "save")),
            _eviction(info),
            _memory(info),
        ]
    except GatewayError as error:
        return [_failure(error)]


async def _info(client: Client) -> dict[str, str] | None:
    """Return what it tells of itself; None where it knows this user, who may not ask."""
    # A user that it does not know fails here already.
    await client.command("PING")
    try:
        # redis-py makes a dictionary of it, with numbers where it sees some.
        return {name: str(value) for name, value in (await client.command("INFO")).items()}
    except GatewayError as error:
        if error.code not in {"redis_denied", "redis_error"}:
            raise
        return None


def _failure(error: GatewayError) -> RedisFinding:
    """Tell an admin what the operating system said, where a caller is told to try again."""
    reason = reason_of(error)
    if error.code != "redis_unavailable" or not reason:
        return RedisFinding("redis", "fail", error.message, error.hint)
    return RedisFinding(
        "redis",
        "fail",
        f"{error.message} ({reason})",
        "Start it, or correct redis_url; firewalls look like this too.",
    )


async def refuse_cluster(client: Client) -> None:
    """Raise Unavailable `redis_cluster` for one shard of several; others' calls would fail.

    A user who may not ask passes. Raises what else a command raises.
    """
    try:
        info = await client.command("INFO", "cluster")
        several = str(info.get("cluster_enabled")) == "1" and await _shards(client) > 1
    except GatewayError as error:
        if error.code not in {"redis_denied", "redis_error"}:
            raise
        return
    if several:
        raise clustered()


async def _shards(client: Client) -> int:
    """Count the shards of a cluster that hold keys."""
    for line in (await client.command("CLUSTER", "INFO")).decode().split():
        name, _, value = line.partition(":")
        if name == "cluster_size":
            return int(value)
    return 1


async def _cluster(client: Client, info: dict[str, str]) -> list[RedisFinding]:
    if info.get("cluster_enabled") != "1":
        return []
    shards = await _shards(client)
    if shards > 1:
        error = clustered()
        return [RedisFinding("cluster", "fail", error.message, error.hint)]
    return [RedisFinding("cluster", "ok", "It has one shard, which serves as a single Redis.")]


async def _sentinels(client: Client) -> list[RedisFinding]:
    """Look whether a failover would be noticed and could be decided."""
    replies = await client.ask_sentinels("SENTINEL", "MASTERS")
    if not replies:
        return []
    silent = sum(isinstance(reply, GatewayError) for reply in replies)
    detail = f"{len(replies) - silent} of {len(replies)} Sentinels answer."
    if silent:
        return [
            RedisFinding(
                "sentinels",
                "warn",
                detail,
                "Start the others, or take them out of redis_url; check redis_sentinel_password.",
            )
        ]
    if len(replies) < _FEWEST_SENTINELS:
        return [
            RedisFinding(
                "sentinels",
                "warn",
                detail,
                "Name at least three, on three machines: fewer cannot outvote a broken one.",
            )
        ]
    return [RedisFinding("sentinels", "ok", detail)]


def _version(info: dict[str, str]) -> RedisFinding:
    name = info.get("server_name", "redis")
    # Valkey tells the Redis version that it is compatible with beside its own.
    own = info.get(f"{name}_version") or info.get("redis_version", "unknown")
    compatible = info.get("redis_version", own)
    numbers = tuple(int(n) for n in compatible.split(".")[:2] if n.isdecimal())
    if numbers and numbers < _OLDEST:
        return RedisFinding(
            "version", "fail", f"{name} {own} is too old.", "Use Redis 7.0, Valkey 7.2, or newer."
        )
    if numbers and numbers < _TRIED:
        return RedisFinding(
            "version",
            "warn",
            f"{name} {own} is older than what the gateway is tried with.",
            "Use Redis 7.0, Valkey 7.2, or newer.",
        )
    return RedisFinding("version", "ok", f"{name} {own}")


def _role(info: dict[str, str]) -> RedisFinding:
    role = info.get("role", "master")
    if role != "master":
        return RedisFinding(
            "role",
            "fail",
            "It is a read-only replica.",
            "Give redis_url the primary's address, or name its Sentinels: redis+sentinel://...",
        )
    replicas = int(info.get("connected_slaves", "0"))
    copies = f", and {replicas} replica{'s' if replicas > 1 else ''} follow" if replicas else ""
    return RedisFinding("role", "ok", f"It takes writes{copies}.")


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


async def _setting(client: Client, name: str) -> str | None:
    """Return one of its settings; None where this user, or a managed Redis, has no CONFIG."""
    try:
        found = await client.command("CONFIG", "GET", name)
    except GatewayError:
        return None
    # A name and its value, or nothing where it has no such setting.
    return found[1].decode() if found else None


def _persistence(info: dict[str, str], snapshots: str | None) -> RedisFinding:
    # While a snapshot cannot be written, Redis refuses writes (stop-writes-on-bgsave-error); an
    # append-only file that cannot be written stops them in any case.
    for name, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if info.get(name, "ok") != "ok":
            return RedisFinding(
                "persistence",
                "fail",
                f"Its {what} could not be written; it may refuse writes.",
                "Look at its log, and at the room on its disk.",
            )
    if info.get("aof_enabled") == "1":
        return RedisFinding("persistence", "ok", "Every change is written to an append-only file.")
    return RedisFinding(
        "persistence",
        "warn",
        "It keeps nothing on disk: a restart forgets everything."
        if snapshots == ""
        else "There is no append-only file: a crash forgets what came after the last snapshot.",
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
    installed = int(info.get("total_system_memory", "0"))
    if installed and not most and used > _NEARLY_FULL * installed:
        return RedisFinding(
            "memory",
            "warn",
            f"{used / installed:.0%} of the machine's memory is used.",
            "Give it more, and set maxmemory: without one the system kills it when all is used.",
        )
    limit = f"of {most / 2**20:.0f} MiB" if most else "without a limit"
    return RedisFinding("memory", "ok", f"{used / 2**20:.0f} MiB are used, {limit}.")
