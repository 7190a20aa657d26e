"""The scenarios: tests that are no point of the grid of servers and streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import parked_scenarios, publish_scenarios, request_scenarios
from .trial import Trial


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    :ivar run: measures it and returns its figures.
    :ivar seconds: how long it takes, for the estimate.
    :ivar packages: whether it measures other checkouts of this package too, each in this time.
    """

    run: Callable[[Trial], dict[str, Any]]
    seconds: float
    packages: bool = False


SCENARIOS = {
    "idle": Scenario(parked_scenarios.idle, 65),
    "stalled": Scenario(parked_scenarios.stalled, 45),
    "others": Scenario(parked_scenarios.others, 30),
    "workers": Scenario(parked_scenarios.workers, 40),
    "gets": Scenario(request_scenarios.gets, 35),
    "board-posts": Scenario(request_scenarios.board_posts, 12, packages=True),
    "publishers": Scenario(publish_scenarios.publishers, 10, packages=True),
}
