"""What is shown while bytes move."""

import pytest

from gateway.cli.display import Speed, describe
from gateway.cli.remote import human_size, human_time
from gateway.client import Progress

MIB = 1 << 20


def test_speed_is_that_of_the_last_seconds() -> None:
    now = 0.0
    speed = Speed(lambda: now)
    assert speed.add(0) == 0
    for second in range(1, 31):
        now = float(second)
        # Ten bytes a second at first, a hundred later.
        shown = speed.add(10 * second if second <= 10 else 100 + 100 * (second - 10))
        if second == 10:
            assert shown == pytest.approx(10)
    assert shown == pytest.approx(100)


def test_figures_tell_bytes_speed_and_time_left() -> None:
    progress = Progress(size=100 * MIB, phase="uploading", settled_bytes=20 * MIB)
    progress.in_flight[3] = 5 * MIB
    assert describe(progress, 25 * MIB) == "25.0 MiB of 100.0 MiB, 25.0 MiB/s, 0:03 left"
    assert describe(progress, 0) == "25.0 MiB of 100.0 MiB"


def test_waiting_and_verifying_are_said() -> None:
    progress = Progress(size=MIB, phase="uploading", trouble="The store is unwell")
    assert describe(progress, 5) == "0 B of 1.0 MiB, waiting"
    assert describe(Progress(phase="verifying", fraction=0.5), 0) == "verifying, 50%"
    assert describe(Progress(phase="completing"), 0) == "completing"


def test_bytes_that_go_through_the_gateway_are_said_to() -> None:
    progress = Progress(size=MIB, phase="uploading", relayed=True)
    assert describe(progress, MIB) == "0 B of 1.0 MiB, 1.0 MiB/s, 0:01 left, through the gateway"


def test_a_stream_has_figures_without_a_whole() -> None:
    progress = Progress(size=None, phase="uploading", read_bytes=7 * MIB, settled_bytes=MIB)
    progress.in_flight[2] = 2 * MIB
    assert describe(progress, 0) == "3.0 MiB of 7.0 MiB so far"
    assert describe(progress, MIB) == "3.0 MiB of 7.0 MiB so far, 1.0 MiB/s"


def test_a_part_sent_twice_never_shows_more_than_the_whole() -> None:
    progress = Progress(size=MIB, settled_bytes=MIB)
    progress.in_flight[1] = MIB
    assert progress.shown_bytes == MIB


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * MIB, "1.5 GiB"),
        (3 * 2**40, "3.0 TiB"),
        (9999 * 2**40, "9999.0 TiB"),
    ],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert human_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (61, "1:01"), (3723, "1:02:03"), (3 * 86_400 + 4 * 3600, "3 d 4 h")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert human_time(seconds) == text
