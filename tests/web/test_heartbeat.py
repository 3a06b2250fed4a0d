"""How the lateness of the event loop is found and told."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import Longest, Metrics
from gateway.web.heartbeat import Heartbeat

INTERVAL = 0.005
BLOCK = 0.1


class Beats:
    """Hears a heartbeat, and tells when there was one at least so late."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, float]] = []
        self._told = asyncio.Event()

    def __call__(self, lag: float, block: float) -> None:
        self.heard.append((lag, block))
        self._told.set()

    async def first(self, at_least: float) -> tuple[float, float]:
        async with asyncio.timeout(30):
            while True:
                for lag, block in self.heard:
                    if lag >= at_least:
                        return lag, block
                self._told.clear()
                await self._told.wait()


@pytest.fixture
def beats() -> Beats:
    return Beats()


async def test_a_callback_that_waits_holds_up_the_loop(beats: Beats) -> None:
    heartbeat = Heartbeat(beats, interval=INTERVAL)
    heartbeat.start()
    try:
        time.sleep(BLOCK)  # noqa: ASYNC251 - this is the very fault
        # It slept, so whatever time it lacked a processor lies outside of the sleep, perhaps even
        # before the beat was due.
        lacked = heartbeat._without_processor() - heartbeat._waited
        lag, block = await beats.first(BLOCK - INTERVAL - 0.002)
    finally:
        heartbeat.stop()
    assert BLOCK - 2 * INTERVAL - 0.002 - lacked <= block <= lag


async def test_waiting_for_a_processor_is_a_lag_but_no_block(
    beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = Heartbeat(beats, interval=INTERVAL)
    # As if the thread had been ready, and had no processor, all the time.
    monkeypatch.setattr(heartbeat, "_without_processor", time.monotonic)
    heartbeat.start()
    try:
        time.sleep(BLOCK)  # noqa: ASYNC251 - this is the very fault
        assert (await beats.first(BLOCK / 2))[1] == 0
    finally:
        heartbeat.stop()


async def test_it_beats_until_it_is_stopped(beats: Beats) -> None:
    heartbeat = Heartbeat(beats, interval=INTERVAL)
    heartbeat.start()
    heartbeat.start()
    await beats.first(0)
    heartbeat.stop()
    heartbeat.stop()
    heard = len(beats.heard)
    await asyncio.sleep(3 * INTERVAL)
    assert len(beats.heard) == heard


def test_the_figures_tell_the_lags_and_the_longest() -> None:
    metrics = Metrics()
    for lag, block in ((0.0005, 0.0), (0.3, 0.25), (0.004, 0.004)):
        metrics.loop_lag(lag, block)
    lines = metrics.exposition().decode().splitlines()
    assert "gateway_event_loop_lag_seconds_count 3.0" in lines
    assert 'gateway_event_loop_lag_seconds_bucket{le="0.02"} 2.0' in lines
    assert "gateway_event_loop_longest_lag_seconds 0.3" in lines
    assert "gateway_event_loop_longest_block_seconds 0.25" in lines


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 10)), min_size=1),
    st.floats(0, 200),
)
def test_the_longest_is_kept_for_one_window_and_at_most_for_two(
    values: list[tuple[float, float]], rest: float
) -> None:
    now = 1000.0
    longest = Longest(60.0, lambda: now)
    added = []
    for pause, value in values:
        now += pause
        longest.add(value)
        added.append((now, value))
    now += rest
    surely = max((value for at, value in added if now - at < 59.9), default=0.0)
    perhaps = max((value for at, value in added if now - at < 120.1), default=0.0)
    assert surely <= longest.value() <= perhaps
