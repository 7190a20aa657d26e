"""Shows the table in a terminal, with rich."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live

from ..errors import SSEError
from .source import Source
from .table import draw


def show_once(source: Source) -> None:
    """Print the whole table.

    :raises SSEError: the streams cannot be read.
    """
    Console().print(draw(source.name, source.read(), sys.maxsize))


def show(source: Source, every: float) -> None:
    """Show the table until Ctrl-C. If the streams cannot be read for a while, the table stays and says so.

    :param every: seconds between two looks.
    :raises SSEError: the streams cannot be read at the beginning.
    """
    console = Console()
    reports, fault = source.read(), ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(draw(source.name, reports, console.height, fault), refresh=True)
            time.sleep(every)
            try:
                reports, fault = source.read(), ""
            except SSEError as error:
                fault = f"{error}; the table is old"
