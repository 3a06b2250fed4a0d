"""Logs and metrics of one process, and the one place where secrets are kept out of the logs.

Everything that is logged, by us or by a library, passes `scrub`: presigned queries, tokens and
passwords are replaced, whatever field or traceback they hide in. That is a net under the rule not
to log them; it knows the usual forms, and does not promise to know a secret by its looks.

Metrics live in an object, not in prometheus-client's global registry, so that one process can
build several applications. With several worker processes each counts for itself.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TextIO

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

REMOVED = "[removed]"

# A presigned query of either signature version, an Authorization header, credentials in its form,
# a password inside a URL, and NAME=VALUE or "NAME": "VALUE" where the name says that it is secret.
# Repetitions are bounded where they could meet each other, so that no text takes long.
_SECRETS = re.compile(
    r"(?P<query>\?)[^?\s\"'<>]*(?:X-Amz-|AWSAccessKeyId=|Signature=)[^\s\"'<>]*"
    r"|(?P<header>\bauthorization[\"']?\s{0,4}[=:]\s{0,4}[\"']?)[^\"'\r\n]+"
    r"|(?P<scheme>\b(?:Bearer|Basic|AWS4-HMAC-SHA256)\s{1,4})[^\s\"',;][^\"'\r\n]*"
    r"|(?P<user>://[^\s/@:\"']{0,200}:)[^\s/@\"']+(?=@)"
    r"|(?P<name>(?:signature|credential|password|passwd|secret|token|api[_-]?key)"
    r"[\w.-]{0,40}[\"']?\s{0,4}[=:]\s{0,4}[\"']?)[^\s\"',;&}\])]+",
    re.IGNORECASE,
)
# Cheap to look for, and without one of these nothing above can match.
_HINTS = re.compile(
    r"amz-|awsaccesskey|signature|bearer|basic|aws4|://|credential|passw|secret|token|key|authoriz",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"authorization|cookie|password|passwd|secret|credential|(?:^|[_-])token$|api[_-]?key",
    re.IGNORECASE,
)
# Deep enough for any event of ours; what lies deeper is shown as text.
_MAX_DEPTH = 6


def scrub_text(text: str) -> str:
    """Return the text with presigned queries, credentials, tokens and passwords replaced."""
    if not text.isascii():
        # A request line may hold lone surrogates, which have no UTF-8 form.
        text = text.encode("utf-8", "replace").decode()
    if not _HINTS.search(text):
        return text
    return _SECRETS.sub(_replacement, text)


def scrub(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace secrets in every field of an event; a structlog processor."""
    for name, value in event.items():
        event[name] = _scrub_field(name, value, 0)
    return event


def _scrub_field(name: str, value: Any, depth: int) -> Any:
    # Most fields are numbers, and need no look.
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _is_secret(name):
        return REMOVED
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {str(k): _scrub_field(str(k), v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_scrub_field("", item, depth + 1) for item in value]
    return scrub_text(str(value))


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _replacement(match: re.Match[str]) -> str:
    kept = next(text for text in match.groups() if text is not None)
    return f"{kept}{REMOVED}"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How to log: the least level, and one JSON object a line or text for people.

    `auto` is text on a terminal and JSON elsewhere.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["auto", "text", "json"] = "auto"


def configure_logging(options: LogOptions, stream: TextIO | None = None) -> None:
    """Send the whole process's logs to the stream (standard error), scrubbed.

    Acts on the process, like `logging.basicConfig`; called again, the last call counts.
    """
    stream = sys.stderr if stream is None else stream
    level = getattr(logging, options.level.upper())
    as_json = options.form == "json" or (options.form == "auto" and not stream.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_dump)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            scrub,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [kept for kept in root.handlers if isinstance(kept, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(level)
    # botocore and its like say in their debug logs what they sign, and nothing there is ours.
    for name in ("botocore", "aiobotocore", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(max(level, logging.INFO))


class _Forward(logging.Handler):
    """Hands what libraries log through `logging` to structlog, so that it is scrubbed too."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                record.getMessage(),
                logger=record.name,
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 - a log line that fails must not fail what it tells of.
            self.handleError(record)


def _dump(event: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits, for one: the line must be written all the same.
        return orjson.dumps({key: str(value) for key, value in event.items()}).decode()


# From a status call in memory to a completion that waits its full minute, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# What is good is below a millisecond, what is allowed ends at 20 (performance.md).
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Longest:
    """The largest of the values of the last `window` seconds, and of up to as many before them.

    Whoever asks at least once a window misses none, and asking changes nothing: several may ask.
    """

    def __init__(self, window: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._since = clock()
        self._before = 0.0
        self._now = 0.0

    def add(self, value: float) -> None:
        """Take in a value."""
        self._turn()
        self._now = max(self._now, value)

    def value(self) -> float:
        """Return the largest; 0 where there was none."""
        self._turn()
        return max(self._before, self._now)

    def _turn(self) -> None:
        passed = self._clock() - self._since
        if passed >= self._window:
            self._before = self._now if passed < 2 * self._window else 0.0
            self._now = 0.0
            self._since += passed - passed % self._window


class Metrics:
    """The figures of one application, with a registry of their own.

    Labels are bounded: routes are templates, and methods that nobody knows count as OTHER.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gateway_http_requests_total",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "gateway_http_request_seconds",
            "Time from a request's head to its answer.",
            ("route", "method"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Finding a figure by its labels takes longer than counting it.
        self._request = lru_cache(maxsize=1024)(self._requests.labels)
        self._request_seconds = lru_cache(maxsize=1024)(self._seconds.labels)
        self._store_calls = Counter(
            "gateway_store_calls_total",
            "Calls to the object store, every attempt, by how they ended.",
            ("operation", "outcome"),
            registry=self.registry,
        )
        self._store_seconds = Histogram(
            "gateway_store_call_seconds",
            "Time that calls to the object store took.",
            ("operation",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._delivered = Counter(
            "gateway_events_delivered_total",
            "Events handed on, each time, by where to: stream, or a webhook's origin.",
            ("to",),
            registry=self.registry,
        )
        self._failed = Counter(
            "gateway_webhook_failures_total",
            "Attempts to deliver an event to a webhook that failed, by why.",
            ("to", "reason"),
            registry=self.registry,
        )
        self._waiting = self._backlog("gateway_events_pending", "Events that wait to be handed on.")
        self._oldest = self._backlog(
            "gateway_events_oldest_pending_seconds", "How long the oldest of them has waited."
        )
        self._dead = self._backlog(
            "gateway_events_dead", "Events given up, which wait to be replayed."
        )

        self._lag = Histogram(
            "gateway_event_loop_lag_seconds",
            "How late a timer of the event loop went off.",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )
        self._longest_lag = self._longest(
            "gateway_event_loop_longest_lag_seconds",
            "The longest such lag of the last one to two minutes.",
        )
        self._longest_block = self._longest(
            "gateway_event_loop_longest_block_seconds",
            "The same without the time that the loop was ready and had no processor.",
        )

    def _backlog(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, ("to",), registry=self.registry)

    def _longest(self, name: str, description: str) -> Longest:
        longest = Longest()
        Gauge(name, description, registry=self.registry).set_function(longest.value)
        return longest

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is a template such as /uploads/{session_id}."""
        method = method if method in _METHODS else "OTHER"
        self._request(route, method, status).inc()
        self._request_seconds(route, method).observe(seconds)

    def store_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a call to the store; `outcome` is `ok`, or why it failed as an error code."""
        self._store_calls.labels(operation, outcome).inc()
        self._store_seconds.labels(operation).observe(seconds)

    def event_delivered(self, to: str) -> None:
        """Count an event that has arrived: in the `stream`, or at a webhook of this origin."""
        self._delivered.labels(to).inc()

    def webhook_failed(self, to: str, reason: str) -> None:
        """Count an attempt that failed; `reason` is a word of `delivery.webhooks`."""
        self._failed.labels(to, reason).inc()

    def event_backlog(self, to: str, *, waiting: int, oldest: float, dead: int) -> None:
        """Note what waits, the age of the oldest in seconds, and what was given up.

        All processes note the same: it lies in Redis.
        """
        self._waiting.labels(to).set(waiting)
        self._oldest.labels(to).set(oldest)
        self._dead.labels(to).set(dead)

    def loop_lag(self, lag: float, block: float) -> None:
        """Note how late the event loop was, and for how much of that it was blocked (seconds)."""
        self._lag.observe(lag)
        self._longest_lag.add(lag)
        self._longest_block.add(block)

    def show(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when somebody looks."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def exposition(self) -> bytes:
        """Return all figures in Prometheus' text format, of type `content_type`."""
        return generate_latest(self.registry)
