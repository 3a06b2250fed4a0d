"""The seed and the length of the chaos run."""

import pytest

# On top of the storm itself: starting, settling within its bounds, and judging.
_AROUND_SECONDS = 240


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """Give the seed of the schedule."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def chaos_seconds(request: pytest.FixtureRequest) -> float:
    """Give how long clients and faults go on."""
    return float(request.config.getoption("--chaos-seconds"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Allow a run its own length."""
    seconds = float(config.getoption("--chaos-seconds"))
    for item in items:
        if item.get_closest_marker("chaos"):
            # Reading everything back takes longer the more there is.
            item.add_marker(pytest.mark.timeout(_AROUND_SECONDS + 1.5 * seconds))
