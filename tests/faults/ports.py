"""Ports that misbehave in one method, over real ones."""

from typing import Any


class Around:
    """A port with some methods replaced: each gets the real one, and the arguments."""

    def __init__(self, port: Any, **methods: Any) -> None:
        self._port = port
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name not in self._methods:
            return real
        return lambda *args, **kwargs: self._methods[name](real, *args, **kwargs)
