"""What goes wrong with Redis, translated once into the gateway's own errors.

An answer that never came says nothing about what Redis did: every call here may have taken
effect although it raised Unavailable, and every caller can repeat it (see `core.ports`).
"""

import ssl

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from gateway.errors import GatewayError, Internal, Unavailable

# Everything that a call to redis-py may raise because of Redis or the network. The built-in
# TimeoutError, which our own deadline raises, is an OSError.
FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

RETRY_AFTER_SECONDS = 2
# Room is made by sessions that end or by an administrator, and neither takes seconds.
FULL_RETRY_AFTER_SECONDS = 30

_DENIED = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)
_NOT_NOW = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.AskError,
    exceptions.TryAgainError,
    OSError,
)
# Error replies for which redis-py has no class, by their first word: the disk fails, replicas are
# missing, a script runs too long.
_NOT_NOW_WORDS = frozenset({"MISCONF", "NOREPLICAS", "BUSY"})


def translate(error: Exception) -> GatewayError:
    """Return the gateway's error for what redis-py, the network or our deadline raised."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return Unavailable(
            "Redis has no memory left for new sessions.",
            code="redis_full",
            hint="Uploads under way go on; raise Redis's maxmemory to take new ones.",
            retry_after=FULL_RETRY_AFTER_SECONDS,
        )
    if isinstance(error, _DENIED):
        return Unavailable(
            "Redis refuses the gateway's credentials.",
            code="redis_denied",
            hint="Check the user, the password and the ACL behind the Redis URL of the settings.",
            retryable=False,
        )
    known = _unreachable(error)
    if known is not None:
        return known
    first_word = str(error).partition(" ")[0]
    if isinstance(error, _NOT_NOW) or first_word in _NOT_NOW_WORDS:
        return Unavailable(
            "Redis does not answer.",
            code="redis_unavailable",
            hint="Nothing that was uploaded is lost; try again in a moment.",
            retry_after=RETRY_AFTER_SECONDS,
        )
    if first_word == "WRONGTYPE":
        return unreadable()
    return Internal(
        "Redis refused a command of the gateway.",
        code="redis_error",
        hint="The gateway needs Redis 7.0, Valkey 7.2, or later; the log has the details.",
    )


def _unreachable(error: Exception) -> Unavailable | None:
    """Return the error where it is the way to the right server that is wrong."""
    if isinstance(error, (exceptions.MovedError, exceptions.ClusterCrossSlotError)):
        return clustered()
    untrusted = _ssl_error(error)
    if untrusted is not None:
        return Unavailable(
            "The TLS connection to Redis fails: "
            f"{getattr(untrusted, 'verify_message', '') or untrusted.reason or 'no TLS there'}.",
            code="redis_tls_failed",
            hint="Redis must serve TLS at this address, with a certificate for this host name by "
            "an authority that the system trusts, or that redis_ca names.",
            retryable=False,
        )
    if isinstance(error, MasterNotFoundError):
        return Unavailable(
            "No Sentinel that answers names a primary.",
            code="redis_unavailable",
            hint="A failover takes seconds. If it lasts, compare the Sentinels' addresses and the "
            "name in the URL of Redis.",
            retry_after=RETRY_AFTER_SECONDS,
        )
    return None


def clustered() -> Unavailable:
    """Return the error for a Redis Cluster of several shards."""
    return Unavailable(
        "This Redis is one shard of a cluster, and the gateway cannot work with several.",
        code="redis_cluster",
        hint="Give redis_url a Redis without cluster mode, alone or behind Sentinels.",
        retryable=False,
    )


def _ssl_error(error: BaseException | None) -> ssl.SSLError | None:
    """Find what TLS said among the causes: redis-py and asyncio wrap it in errors of their own."""
    for _ in range(8):
        if error is None or isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def unreadable() -> Internal:
    """Return the error for a record that makes no sense, in the words of `core.record`."""
    return Internal(
        "The record of this session cannot be read.",
        code="record_unreadable",
        hint="Other sessions are not touched; an administrator can rebuild this one.",
    )
