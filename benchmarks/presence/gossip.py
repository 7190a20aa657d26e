"""What the messages between processes cost, with simulated people and without sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sse_threaded import open_log
from sse_threaded.log.retention import MESSAGES

from ..common.paths import ROOT

# Seconds in which the people come, and for which the others are measured.
_COMING, _STEADY = 20.0, 10.0

# People who come, and as many who go, in each second of the steady state.
_RATE = 200


class Process:
    """A child process; see :mod:`.gossip_process`.

    :param url: the log's.
    """

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.presence.gossip_process", url]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def send(self, do: str, **values: Any) -> None:
        """Give it a command, without waiting for the answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._child.stdin.flush()

    def answer(self) -> dict[str, float]:
        """Wait for the answer to the last command: its processor time so far, and its memory."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("a process has ended")
        found: dict[str, float] = json.loads(line)
        return found

    def ask(self, do: str, **values: Any) -> dict[str, float]:
        """Give it a command, and wait for the answer."""
        self.send(do, **values)
        return self.answer()

    def close(self) -> None:
        """End it."""
        with self._child:  # this closes its input, and waits
            pass


@contextmanager
def _processes(url: str, count: int) -> Iterator[list[Process]]:
    with ExitStack() as ends:
        made = []
        for _ in range(count):
            made.append(Process(url))
            ends.callback(made[-1].close)
        for each in made:
            each.ask("wait")
        yield made


def _messages(url: str, after: int) -> tuple[int, int, int]:
    """The number of messages after a number of the log, their characters, and the newest number."""
    log = open_log(url)
    count = size = 0
    try:
        while page := log.read(after, channels=[MESSAGES]):
            after = page[-1].sequence
            count, size = count + len(page), size + sum(len(record.data) for record in page)
    finally:
        log.close()
    return count, size, after


def _microseconds(seconds: float, events: float) -> str:
    return f"{seconds / events * 1e6:.1f} µs"


def measure(url: str, people: int, processes: int) -> Iterator[tuple[str, str]]:
    """Yield what was measured, each with its figures.

    :param url: the log's.
    :param people: how many people come in all.
    :param processes: how many processes they have streams in.
    """
    with _processes(url, processes) as all_processes:
        before = [each.ask("wait") for each in all_processes]
        share = people // processes
        begun = time.monotonic()
        for number, each in enumerate(all_processes):
            each.send(
                "enter", people=(number * share, (number + 1) * share), seconds=_COMING, count=share * processes
            )
        after = [each.answer() for each in all_processes]
        late = time.monotonic() - begun - _COMING
        people = share * processes
        count, size, last = _messages(url, 0)
        cpu = sum(now["cpu"] - then["cpu"] for now, then in zip(after, before, strict=True))
        memory = sum(now["bytes"] - then["bytes"] for now, then in zip(after, before, strict=True))
        yield (
            f"{people:,} people come in {_COMING:g} s: processor time a join, in each process",
            _microseconds(cpu / processes, people),
        )
        yield "the same, in all processes together", _microseconds(cpu, people)
        yield "memory of a person, in each process", f"{memory / processes / people:.0f} bytes"
        yield "messages in the log, and characters a join", f"{count}, {size / people:.0f}"
        yield "after the last one came, all processes knew all after", f"{late:.2f} s"

        before = after
        time.sleep(_STEADY)
        after = [each.ask("wait") for each in all_processes]
        cpu = sum(now["cpu"] - then["cpu"] for now, then in zip(after, before, strict=True))
        yield (
            "no joins: processor time a second, in each process",
            f"{cpu / processes / _STEADY * 1000:.2f} ms",
        )

        before = after
        count = round(_RATE * _STEADY)
        first = all_processes[0]
        first.ask("enter", people=(people, people + count), seconds=_STEADY, count=people + count)
        after = [each.ask("wait") for each in all_processes]
        cpu = sum(now["cpu"] - then["cpu"] for now, then in zip(after[1:], before[1:], strict=True))
        own = after[0]["cpu"] - before[0]["cpu"]
        others = _microseconds(cpu / (processes - 1), count) if processes > 1 else "-"
        label = f"{_RATE} a second come to {people:,}: processor time a join"
        yield f"{label}, in their process", _microseconds(own, count)
        yield f"{label}, in each other process", others
        messages, size, last = _messages(url, last)
        yield "messages a second then, of all processes", f"{messages / _STEADY:.1f}"

        before = after
        begun = time.monotonic()
        with _processes(url, 1) as (new,):
            found = new.ask("wait", count=people + count)
            yield "a process that begins knows all after", f"{time.monotonic() - begun:.2f} s, its start included"
            yield "its processor time for that, its start included", f"{found['cpu']:.2f} s"
        after = [each.ask("wait") for each in all_processes]
        cpu = sum(now["cpu"] - then["cpu"] for now, then in zip(after, before, strict=True))
        yield "processor time of all others for that", f"{cpu:.2f} s"
        yield "characters of the list in the log", f"{_messages(url, last)[1]:,}"
