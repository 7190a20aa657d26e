"""Draws the picture of a run, by the number of streams."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

from ..common.picture import save, use_svg
from .figures import FLOOR, Results, median, rounds_of
from .servers import AT, SERVERS

_PANELS = (
    ("us_per_delivery", "processor time a delivery, µs"),
    ("p99_ms", "p99 latency, ms"),
    ("kb_per_stream", "memory a stream, KB"),
    ("burst_rate", "burst, deliveries a second"),
)
_OURS = {server.key for server in SERVERS if server.ours}


def draw(results: Results, path: Path) -> None:
    """Write the picture of the cells with one channel and one worker."""
    use_svg()
    numbers = sorted({cell["streams"] for cell in results["cells"]})
    figure, axes = plt.subplots(2, 2, figsize=(11, 8))
    for axis, (name, title) in zip(axes.flat, _PANELS, strict=True):
        for place, (key, server) in enumerate(results["servers"].items()):
            points = [(number, median(rounds_of(results, key, number), name)) for number in numbers]
            drawn = [(number, value) for number, value in points if value]
            # The floor needs hardly any memory for a stream. Its line would press the others together.
            if drawn and (key, name) != (FLOOR, "kb_per_stream"):
                ours = key.partition(AT)[0] in _OURS
                style = "--" if key == FLOOR else "-"
                label = server["title"].replace("*", "")
                width, colour = 2.5 if ours else 1.2, f"C{place}"  # the same colour in all panels
                axis.plot(*zip(*drawn, strict=True), style, marker="o", lw=width, color=colour, label=label)
        axis.set_title(title)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.minorticks_off()
        axis.set_xlabel("streams")
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=3, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    save(figure, path)
