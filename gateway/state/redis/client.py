"""One Redis behind a deadline: every call ends in time, and only with errors of `gateway.errors`.

The deadline covers everything: waiting for a free connection, connecting, and the answer. redis-py
has a time limit for reading too, but on Python 3.11 that one costs a task for every command sent.

With Sentinels, every new connection asks them for the primary; after a failover the old one's
connections break or are refused writes, and the next ones lead to the new one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff

from gateway.state.redis.address import RedisOptions
from gateway.state.redis.errors import FAILURES, translate
from gateway.state.redis.sentinels import SentinelGroup

DEADLINE_SECONDS = 5.0
CONNECT_SECONDS = 2.0
# For connecting to a Sentinel, and for its answer: several may be asked within one deadline.
SENTINEL_SECONDS = 0.7
# A connection idle for longer is tried with a PING before it is used.
HEALTH_CHECK_SECONDS = 15
# A connection serves one call at a time; 64 of them saturate a Redis from one process.
CONNECTIONS = 64
# Once for a connection that went stale in the pool, once for a server that just restarts.
RETRIES = 2

Answer = TypeVar("Answer")
Word = bytes | str | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script of `scripts/`, known to Redis by the SHA-1 of its text."""

    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> "Script":
        """Read `scripts/<name>.lua`, whose header says what it promises."""
        text = files("gateway.state.redis").joinpath("scripts", f"{name}.lua").read_text("utf-8")
        # Redis names scripts by SHA-1; nothing is protected by it.
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class Client:
    """Runs commands and scripts; made by `connect`, closed with `close`."""

    def __init__(
        self,
        redis: Redis,
        *,
        deadline: float = DEADLINE_SECONDS,
        connections: int = CONNECTIONS,
        sentinels: SentinelGroup | None = None,
    ) -> None:
        """Wrap a redis-py client whose pool holds at least `connections`; seconds a call.

        `sentinels` are closed with it.
        """
        # Any: redis-py's execute_command carries no types.
        self._redis: Any = redis
        self.deadline = deadline
        self._sentinels: Any = sentinels
        # redis-py's plain pool raises when all connections are taken; callers here wait instead,
        # and they do it within the deadline.
        self._free = asyncio.Semaphore(connections)

    async def command(self, *words: Word) -> Any:
        """Run one command and return its reply."""
        return await self._within_deadline(lambda: self._redis.execute_command(*words))

    async def run(self, script: Script, keys: Sequence[str], *arguments: Word) -> Any:
        """Run a script in one round trip; its text is sent only when Redis does not know it."""
        return await self._within_deadline(lambda: self._run(script, keys, arguments))

    async def run_each(self, script: Script, keys: Sequence[Sequence[str]]) -> list[Any]:
        """Run a script on several lists of keys in one round trip.

        A script that fails has its error, translated, in place of its reply: one bad record does
        not spoil the others.
        """
        return await self._within_deadline(lambda: self._run_each(script, keys))

    async def close(self) -> None:
        """Close all connections."""
        await self._within_deadline(self._redis.aclose)
        if self._sentinels is not None:
            await self._within_deadline(self._sentinels.aclose)

    async def ask_sentinels(self, *words: Word) -> list[Any]:
        """Send a command to each Sentinel; return their replies, or the errors, translated.

        The list is empty where there are none.
        """

        async def ask(sentinel: Any) -> Any:
            try:
                async with asyncio.timeout(self.deadline):
                    return await sentinel.execute_command(*words)
            except FAILURES as error:
                return translate(error)

        asked = self._sentinels.sentinels if self._sentinels is not None else []
        return list(await asyncio.gather(*map(ask, asked)))

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        try:
            return await self._redis.execute_command(
                "EVALSHA", script.sha, len(keys), *keys, *arguments
            )
        except exceptions.NoScriptError:
            return await self._redis.execute_command(
                "EVAL", script.text, len(keys), *keys, *arguments
            )

    async def _run_each(self, script: Script, keys: Sequence[Sequence[str]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for of_one in keys:
            pipeline.execute_command("EVALSHA", script.sha, len(of_one), *of_one)
        replies = await pipeline.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            try:
                if isinstance(reply, exceptions.NoScriptError):
                    replies[index] = await self._run(script, keys[index], ())
                elif isinstance(reply, Exception):
                    raise reply
            except FAILURES as error:
                replies[index] = translate(error)
                replies[index].__cause__ = error
        return list(replies)

    async def _within_deadline(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(self.deadline), self._free:
                return await call()
        except FAILURES as error:
            raise translate(error) from error


def connect(
    where: str | RedisOptions,
    *,
    deadline: float = DEADLINE_SECONDS,
    connect_timeout: float = CONNECT_SECONDS,
    connections: int = CONNECTIONS,
) -> Client:
    """Return a client for a URL of `address`, or options; connects with the first call.

    `deadline` (seconds) bounds every call, `connect_timeout` one attempt to connect. A call whose
    connection breaks is repeated at once, at most twice: all our scripts can be repeated. Raises
    InvalidRequest `invalid_redis_url`.
    """
    options = where if isinstance(where, RedisOptions) else RedisOptions(where)
    arguments: dict[str, Any] = {
        "max_connections": connections,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "client_name": "multipart-gateway",
        "retry": Retry(
            ExponentialWithJitterBackoff(base=0.02, cap=0.2),
            RETRIES,
            supported_errors=(exceptions.ConnectionError, exceptions.ReadOnlyError),
        ),
        **options.connection,
        # These are not the URL's to choose: the code relies on them. RESP2 is what every version
        # and proxy speaks, and nothing here needs more.
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout,
    }
    asked = options.sentinels
    if asked is None:
        pool = ConnectionPool(**arguments)
        return Client(Redis.from_pool(pool), deadline=deadline, connections=connections)
    sentinels = SentinelGroup(
        asked.addresses,
        {
            "password": options.sentinel_password,
            "protocol": 2,
            "socket_timeout": SENTINEL_SECONDS,
            "socket_connect_timeout": SENTINEL_SECONDS,
            "retry": Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), 0),
            "ssl": options.tls,
            **(options.tls_arguments if options.tls else {}),
        },
    )
    primary = SentinelConnectionPool(  # type: ignore[no-untyped-call]  # The same.
        asked.name, sentinels, ssl=options.tls, **arguments
    )
    return Client(
        Redis.from_pool(primary), deadline=deadline, connections=connections, sentinels=sentinels
    )
