"""Pictures: SVG files that do not change while the figures do not change. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt


def use_svg() -> None:
    """Let matplotlib draw SVG, and let equal figures give equal files."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sse_threaded"


def save(figure: Any, path: Path) -> None:
    """Write a picture and free its memory."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
