"""What the gateways' logs must not hold after a run: secrets, and mistakes of our own."""

from collections import Counter
from pathlib import Path

import orjson

_MISTAKES = {"error", "critical"}
_NEVER = ("never retrieved", "never awaited", "Traceback", "ResourceWarning")


def examine(log: Path, secrets: dict[str, str]) -> tuple[list[str], Counter[str]]:
    """Return what is wrong in a log, and how often each warning was written."""
    wrongs: list[str] = []
    warnings: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        wrongs += [f"{log.name} holds {what}" for what, secret in secrets.items() if secret in line]
        if any(word in line for word in _NEVER):
            wrongs.append(f"{log.name}: {line[:2000]}")
            continue
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            wrongs.append(f"{log.name} has a line that is no event: {line[:500]}")
            continue
        if event.get("level") in _MISTAKES:
            wrongs.append(f"{log.name}: {line[:2000]}")
        elif event.get("level") == "warning":
            warnings[str(event.get("event"))] += 1
    return wrongs, warnings
