"""Draws when clients reconnected."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt

from ..common.picture import save, use_svg
from .result import BAR, KINDS, Result


def draw(found: dict[str, list[Result]], path: Path) -> None:
    """Write the picture of the last round: when clients should reconnect, and when they had a stream again."""
    use_svg()
    figure, axes = plt.subplots(len(found), 1, figsize=(9, 2.4 * len(found)), sharex=True, squeeze=False)
    for axis, (kind, rounds) in zip(axes.flat, found.items(), strict=True):
        one = rounds[-1]
        times = [number * BAR for number in range(len(one.returns))]
        axis.bar(times, one.returns, width=BAR, align="edge", color="C0", label="streams begun")
        axis.step(times, one.due, where="post", color="C1", lw=1.2, label="due reconnections")
        first, last = one.window
        mean = sum(one.due[first:last]) / (last - first)
        axis.hlines(mean, first * BAR, last * BAR, color="black", ls="--", lw=1, label="mean of the window")
        axis.set_title(KINDS[kind], fontsize=10)
        axis.set_ylabel(f"per {BAR:g} s")
        axis.grid(alpha=0.3)
    axes.flat[0].legend(frameon=False, fontsize=9)
    axes.flat[-1].set_xlabel("seconds since the signal")
    figure.tight_layout()
    save(figure, path)
