"""`gateway serve` with its waits of minutes made seconds, for a run that lasts no longer than that.

Nothing but lifetimes, pauses and time limits differs from the real program: no setting makes them
this short, since no deployment should. A name that is no longer there is an error, so that a run
never waits for what it meant to hurry.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway import app
from gateway.cli.main import main
from gateway.config import Settings
from gateway.core import creation, lifecycle, sweeper
from gateway.core.composition import CoreOptions
from gateway.storage.s3.options import S3Options

RECHECK_SECONDS = 5
CREATION_LEASE_SECONDS = 3
# Longer than any creation lasts with the limits below, as the real one is with the real limits.
ANNOUNCED_SECONDS = 60


def _set(module: Any, name: str, value: object) -> None:
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, value)


def hurry(lifetime: float) -> None:
    """Shorten what this process waits for; sessions live for `lifetime` seconds."""
    recheck = lifecycle.RECHECK_AFTER
    for module in list(sys.modules.values()):
        if getattr(module, "RECHECK_AFTER", None) is recheck:
            _set(module, "RECHECK_AFTER", timedelta(seconds=RECHECK_SECONDS))
    _set(creation, "RECHECK_AFTER", timedelta(seconds=ANNOUNCED_SECONDS))
    _set(sweeper, "_AGAIN", timedelta(seconds=2))
    _set(creation, "_CREATION_LEASE", CREATION_LEASE_SECONDS)
    core_options, s3_options = app._core_options, app.s3_options

    def hurried_core(settings: Settings) -> CoreOptions:
        options = core_options(settings)
        return replace(
            options,
            creator=replace(options.creator, session_lifetime=timedelta(seconds=lifetime)),
            completer=replace(
                options.completer,
                lease=2.0,
                patience=30.0,
                first_pause=0.1,
                longest_pause=2.0,
                poll=0.1,
            ),
            sweeper=replace(options.sweeper, interval=0.5, lease=3.0),
        )

    def hurried_s3(settings: Settings) -> S3Options:
        # A stall that outlives these is a timeout, a shorter one only a delay: both happen.
        return replace(
            s3_options(settings),
            connect_timeout=2.0,
            read_timeout=3.0,
            call_timeout=6.0,
            complete_timeout=6.0,
        )

    _set(app, "_core_options", hurried_core)
    _set(app, "s3_options", hurried_s3)


if __name__ == "__main__":
    hurry(float(sys.argv.pop(1)))
    main()
