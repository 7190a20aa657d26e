"""A process's report on its streams, as values and as JSON; and the question that it answers.

A question and its answers are events in the channel of the messages between the processes. Each process answers
with one event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

VERSION = 1

# Streams of one answer: more than a person reads, and some tens of kilobytes.
DEFAULT_MOST = 100
LARGEST_MOST = 300

# Channels of one stream that a report names, and characters of each name that a client or an app chose. So an
# answer of the most streams stays below the longest data of an event.
CHANNELS_TOLD = 5
_CHARACTERS = 60

_ASK, _ANSWER = "streams?", "streams"


class StreamRow(NamedTuple):
    """One open stream, or long poll.

    :ivar channels: the first five of its channels.
    :ivar channel_count: how many channels it has.
    :ivar user: the app's name for its user; ``None`` if the view has named none.
    :ivar address: its client's address, as the view's environ had it; ``None`` if there was none.
    :ivar kind: how it is served: ``parked``, ``thread``, ``wrapped`` or ``poll``.
    :ivar age: seconds since it was opened.
    :ivar last_event_id: the id of the newest event that the hub has handed out to it.
    :ivar waiting: events that wait for its client to read.
    :ivar sent: bytes of events and heartbeats that were sent.
    """

    channels: tuple[str, ...]
    channel_count: int
    user: str | None
    address: str | None
    kind: str
    age: float
    last_event_id: str
    waiting: int
    sent: int


class ProcessReport(NamedTuple):
    """The report of one process on its streams.

    :ivar process: random letters, so that a later process with the same number is another one.
    :ivar host: the name of its machine.
    :ivar pid: its number there.
    :ivar streams: how many streams and long polls it has.
    :ivar waiting: events that wait for all their clients together.
    :ivar position: the id of the newest event that it has handed out.
    :ivar rows: those for which most events wait; of equal ones, the oldest.
    """

    process: str
    host: str
    pid: int
    streams: int
    waiting: int
    position: str
    rows: tuple[StreamRow, ...]


def shortened(text: str | None) -> str | None:
    """Return a text of bounded length, which UTF-8 can write: half a surrogate pair becomes ``?``."""
    if text is None:
        return None
    if len(text) > _CHARACTERS:
        text = text[: _CHARACTERS - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def question(name: str, most: int) -> dict[str, Any]:
    """Return the data of a question.

    :param name: random letters, which the answers repeat.
    :param most: how many rows each process may send.
    """
    return {"v": VERSION, "type": _ASK, "name": name, "most": most}


def answer(name: str, report: ProcessReport) -> dict[str, Any]:
    """Return the data of an answer to the question ``name``."""
    rows = [list(row) for row in report.rows]
    return {"v": VERSION, "type": _ANSWER, "to": name, **report._replace(rows=())._asdict(), "rows": rows}


def to_json(report: ProcessReport) -> dict[str, Any]:
    """Return a report as JSON for other programs, with the names of all fields."""
    return {**report._asdict(), "rows": [row._asdict() for row in report.rows]}


def from_json(values: dict[str, Any]) -> ProcessReport:
    """Return the report that :func:`to_json` has written.

    :raises KeyError: a field is missing; likewise TypeError and ValueError for other values.
    """
    rows = tuple(StreamRow(**{**row, "channels": tuple(row["channels"])}) for row in values["rows"])
    return ProcessReport(**{**values, "rows": rows})


def question_in(text: str) -> tuple[str, int] | None:
    """Return the name of a question and how many rows it wants; ``None`` for other messages."""
    data = _message(text, _ASK)
    if data is None:
        return None
    name, most = data.get("name"), data.get("most")
    if not isinstance(name, str) or not isinstance(most, int):
        return None
    return name, max(0, min(most, LARGEST_MOST))


def report_in(text: str, name: str) -> ProcessReport | None:
    """Return the report in an answer to the question ``name``; ``None`` for other messages."""
    data = _message(text, _ANSWER)
    if data is None or data.get("to") != name:
        return None
    try:
        rows = tuple(_row(values) for values in data["rows"])
        return ProcessReport(**{field: data[field] for field in ProcessReport._fields[:-1]}, rows=rows)
    except (KeyError, TypeError, ValueError):
        return None


def _message(text: str, kind: str) -> dict[str, Any] | None:
    """Return the values of a message; ``None`` for one of another kind or version."""
    if f'"{kind}"' not in text:  # most messages are of other kinds, and some are long
        return None
    try:
        data = json.loads(text)
    except ValueError:
        return None
    is_known = isinstance(data, dict) and data.get("type") == kind and data.get("v") == VERSION
    return data if is_known else None


def _row(values: Iterable[Any]) -> StreamRow:
    channels, *others = values
    return StreamRow(tuple(channels), *others)
