"""Draws the table, with rich. It computes only."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..overview import ProcessReport, StreamRow

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))

# Lines of the terminal that are not rows of the table.
_OTHER_LINES = 6


def duration(seconds: float) -> str:
    """Return a time in its largest unit, such as ``3 min``."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def size(count: int) -> str:
    """Return a number of bytes, such as ``1.2 MB``."""
    for unit, bound in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bound:
            return f"{count / bound:.1f} {unit}"
    return f"{count} B"


def draw(name: str, reports: Sequence[ProcessReport], height: int, fault: str = "") -> RenderableType:
    """Return what the terminal shows.

    :param name: where the reports come from.
    :param reports: those of all processes.
    :param height: lines of the terminal.
    :param fault: why the reports are old; default ``""``: they are not.
    """
    streams = sum(report.streams for report in reports)
    waiting = sum(report.waiting for report in reports)
    processes = f"{len(reports)} process{'' if len(reports) == 1 else 'es'}"
    head = Text.assemble(
        (f"{streams:,}", "bold"),
        f" stream{'' if streams == 1 else 's'} in {processes}",
        f" · {waiting:,} event{'' if waiting == 1 else 's'} waiting" if waiting else "",
        (f" · {name}", "dim"),
        overflow="ellipsis",
        no_wrap=True,
    )
    if fault:
        return Group(head, Text(fault, style="bold red"), _table(reports, height - 1))
    return Group(head, _table(reports, height))


def _table(reports: Sequence[ProcessReport], height: int) -> RenderableType:
    rows = [(row, report) for report in reports for row in report.rows]
    rows.sort(key=lambda each: (-each[0].waiting, -each[0].age))
    if not rows:
        return Text("\nNo stream is open. A process appears here after its first stream.", style="dim")
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for title, ratio in (("channels", 3), ("user", 2), ("address", 2)):
        table.add_column(title, ratio=ratio, overflow="ellipsis", no_wrap=True)
    for title in ("open for", "last id", "waiting", "sent", "process"):
        table.add_column(title, justify="left" if title in ("last id", "process") else "right", no_wrap=True)
    several_hosts = len({report.host for report in reports}) > 1
    for row, report in rows[: max(height - _OTHER_LINES, 1)]:
        table.add_row(*_cells(row, report, several_hosts))
    hidden = sum(report.streams for report in reports) - min(len(rows), max(height - _OTHER_LINES, 1))
    return Group("", table, Text(f"and {hidden:,} more", style="dim")) if hidden > 0 else Group("", table)


def _cells(row: StreamRow, report: ProcessReport, several_hosts: bool) -> list[Text]:
    more = row.channel_count - len(row.channels)
    channels = ", ".join(row.channels) + (f" and {more} more" if more > 0 else "")
    process = f"{report.host} {report.pid}" if several_hosts else str(report.pid)
    waiting = Text(f"{row.waiting:,}", style="bold yellow" if row.waiting else "")
    texts = (channels, row.user or "–", row.address or "–", duration(row.age), row.last_event_id)
    return [*map(_plain, texts), waiting, Text(size(row.sent)), _plain(f"{process} {row.kind}")]


def _plain(text: str) -> Text:
    """A text from elsewhere, without characters that a terminal obeys, and without rich's own markup."""
    return Text("".join(each if each.isprintable() else "?" for each in text))
