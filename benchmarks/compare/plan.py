"""The plan of a run: its cells and its scenarios."""

from __future__ import annotations

import argparse

from .goals import GOALS, package_goals
from .grid import Cell, cells, needed_cells
from .scenarios import SCENARIOS
from .servers import Server


def plan(wanted: argparse.Namespace, servers: list[Server]) -> tuple[list[tuple[Cell, Server]], list[str]]:
    """Return the cells and the scenarios of one round.

    :param servers: those that can be measured.
    """
    goals = [*GOALS, *package_goals(wanted.packages)]
    figures = [figure for goal in goals for figure in goal.figures]
    needed = needed_cells(servers, figures)
    scenarios = [name for name in SCENARIOS if name in wanted.only]
    if wanted.targets:
        in_goals = {figure.scenario for figure in figures}
        return needed, [name for name in scenarios if name in in_goals]
    grid = cells(servers, wanted.streams, wanted.channels, wanted.workers)
    if wanted.whole:
        grid += [point for point in needed if point not in grid]
    return grid, scenarios
