"""Asks all processes of a log for their streams. Any thread of any process may ask; it waits for the answers."""

from __future__ import annotations

import secrets
import select
import time

from ..errors import HistoryGone
from ..log import EventLog, Page
from ..log.retention import MESSAGES
from ..protocol.event import json_line
from .report import DEFAULT_MOST, LARGEST_MOST, ProcessReport, question, report_in

# Seconds: a process answers in a few milliseconds, or in some hundreds if it is busy.
DEFAULT_SECONDS = 0.5


def ask(log: EventLog, *, seconds: float = DEFAULT_SECONDS, most: int = DEFAULT_MOST) -> list[ProcessReport]:
    """Return what the processes of a log say of their streams.

    Each process that has had a stream answers. One that is stopped or very busy may answer too late, and is then
    missing.

    :param log: the log.
    :param seconds: for how long to wait for answers; default 0.5.
    :param most: how many rows each process may send, 0 to 300; default 100.
    :raises ValueError: ``most`` is out of range.
    :raises LogError: the log cannot be used.
    """
    if not isinstance(most, int) or not 0 <= most <= LARGEST_MOST:
        raise ValueError(f"most must be a whole number from 0 to {LARGEST_MOST}, not {most!r}")
    name = secrets.token_hex(8)
    reports: list[ProcessReport] = []
    doorbell = log.open_doorbell()
    rings = select.poll()  # select.select() refuses descriptors above 1023, which a server has with many streams
    rings.register(doorbell, select.POLLIN)
    try:
        after = log.sequence_of(log.append(MESSAGES, json_line(question(name, most))))
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            rings.poll(1000 * min(rest, log.poll_interval or rest))
            doorbell.clear()
            try:
                after = _read(log, after, name, reports)
            except HistoryGone:  # others ask so often that answers are trimmed, or the log was recreated
                break
    finally:
        doorbell.close()
    return sorted(reports, key=lambda report: (report.host, report.pid))


def _read(log: EventLog, after: int, name: str, reports: list[ProcessReport]) -> int:
    """Add the reports that have come; returns the number up to which the log was read."""
    page = Page()
    page.full = True
    while page.full:
        page = log.read(after, channels=[MESSAGES])
        for record in page:
            after = record.sequence
            report = report_in(record.data, name)
            if report is not None:
                reports.append(report)
    return after
