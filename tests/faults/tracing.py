"""Counts every call that the core makes to the world, and ends the process before a chosen one.

A killed process makes no more calls, not even those of its `finally` blocks: once the tracer has
struck, every further call through it dies as well. What was done stays done.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from stack import Stack

from gateway.core.composition import Core, compose


class Killed(BaseException):
    """What SIGKILL looks like from the inside; no `except Exception` holds it up."""


class Tracer:
    """One process's life: `calls` made so far, and the number of the call that it dies before."""

    def __init__(self, kill_before: int | None = None) -> None:
        self.calls: list[str] = []
        self.dead = False
        self._kill_before = kill_before

    def step(self, name: str) -> None:
        """Note a call, or die before it."""
        if self.dead or len(self.calls) == self._kill_before:
            self.dead = True
            raise Killed(name)
        self.calls.append(name)

    def watch(self, port: Any) -> Any:
        """Return the port with every call noted."""
        return _Traced(port, self)


class _Traced:
    def __init__(self, port: Any, tracer: Tracer) -> None:
        self._port = port
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        label = f"{type(self._port).__name__}.{name}"
        if inspect.iscoroutinefunction(value):
            return self._call(label, value)
        if inspect.isasyncgenfunction(value):
            return self._iterate(label, value)
        return value

    def _call(self, label: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._tracer.step(label)
            result = await method(*args, **kwargs)
            if name_of_lease(label):
                return None if result is None else _Traced(result, self._tracer)
            return result

        return call

    def _iterate(self, label: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def iterate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self._tracer.step(label)
            async for item in method(*args, **kwargs):
                yield item

        return iterate


def name_of_lease(label: str) -> bool:
    """Tell whether a call hands out a lease, whose own calls are the process's calls too."""
    return label.endswith(".acquire")


def doomed(stack: Stack, tracer: Tracer) -> Core:
    """Return another gateway process over the same servers, under the tracer's eyes."""
    ports = stack.ports
    return compose(
        replace(
            ports,
            storage=tracer.watch(ports.storage),
            objects=tracer.watch(ports.objects),
            sessions=tracer.watch(ports.sessions),
            chunks=tracer.watch(ports.chunks),
            sidecars=tracer.watch(ports.sidecars),
            leases=tracer.watch(ports.leases),
        ),
        stack.options,
    )
