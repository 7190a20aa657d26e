"""Counts the package's functions on its three ways: publish to client, accept to parked, SIGTERM to farewell.

    python -m tests.harness.three_ways              counts and lists
    python -m tests.harness.three_ways --write      and renews the lists in docs/design.md; words stay
    python -m tests.harness.three_ways --markdown   prints such lists, with the docstrings' words
    python -m tests.harness.three_ways --package /path/to/another/checkout

A real gunicorn serves one hub on SQLite, and has had one stream and one event before. A list has each function
once, at its first call. Threads race, so the list is in groups: first the thread in which the way begins, then the
next one that it comes to. Of each thread a way has these calls:

- publish: all calls of ``publish``; of the pump, those since it last waited, up to the first send.
- open: of the crew's thread that accepts the connection, those since it last waited until it has parked the
  stream. The connection and its request come together.
- end: those of the signal handler; of the pump, those since it last waited, up to the first send.

A thread that waits is already inside a function when the way comes to it. That function is the group's first.
Properties and lambdas count, comprehensions do not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import sse_threaded
from sse_threaded.testing import GunicornServer
from tests.harness.called_functions import Event, Function, names
from tests.support import ROOT, wait_until

PACKAGE = Path(sse_threaded.__file__).parent

DESIGN = ROOT / "docs" / "design.md"

_HARNESS = Path(__file__).parent
_SECONDS = 20.0

# Seconds in which a thread of the crew comes to rest after it has parked a stream.
_REST_SECONDS = 0.1

# Recordings until two agree.
_TRIES = 6

# The threads' names, and what the lists call them.
_MAIN, _PUBLISHER, _PUMP = "MainThread", "publisher", "sse_threaded pump"
_CALLED = {_MAIN: "main thread", _PUBLISHER: "publisher", _PUMP: "pump"}
_CREW = "crew thread"
_WHERE = {
    "main thread": "the main thread",
    "publisher": "the thread that calls `publish`",
    "pump": "the pump's thread",
    _CREW: "a thread of the crew",
}

# After the stream, the thread asks the crew for its next task.
_CREW_FILE = "server/crew.py"

# A step of a way: the thread and the function.
Step = tuple[str, Function]


class _Incomplete(Exception):
    """A recording has no whole way: a signal or a timer came in an unusual moment."""


# Cutting the ways out of a recording.


def _since_wait(events: list[Event], end: int) -> list[Event]:
    """The events of one thread since it last waited, up to an index."""
    for begin in range(end - 1, -1, -1):
        if events[begin].kind in ("wake", "wait"):
            return events[begin:end]
    raise _Incomplete("a thread has not waited")


def _up_to_send(events: list[Event]) -> list[Event]:
    kinds = [event.kind for event in events]
    if "send" not in kinds:
        raise _Incomplete("the pump has sent nothing")
    return _since_wait(events, kinds.index("send"))


def _publish(threads: dict[str, list[Event]]) -> Iterable[tuple[str, list[Event]]]:
    yield _PUBLISHER, threads[_PUBLISHER]
    yield _PUMP, _up_to_send(threads[_PUMP])


def _open(threads: dict[str, list[Event]]) -> Iterable[tuple[str, list[Event]]]:
    for thread, events in threads.items():
        kinds = [event.kind for event in events]
        if "accept" in kinds:
            accepted = kinds.index("accept")
            way = _since_wait(events, accepted) + events[accepted : kinds.index("wait", accepted)]
            sent = [event.kind for event in way].index("send")  # else the request came later than its connection
            free = (at for at, event in enumerate(way) if at > sent and event[1:3] == ("call", _CREW_FILE))
            yield thread, way[: next(free)]
            return
    raise _Incomplete("no thread has accepted a connection")


def _end(threads: dict[str, list[Event]]) -> Iterable[tuple[str, list[Event]]]:
    # The signal comes while the main thread waits, so the handler's calls are between "wait" and "wake". The
    # recording begins in that wait.
    main = threads[_MAIN]
    kinds = [event.kind for event in main]
    handler = main[: kinds.index("wake")]
    if not handler or handler[0].kind != "call":
        raise _Incomplete("the signal came while the main thread did not wait")
    yield _MAIN, handler
    yield _PUMP, _up_to_send(threads[_PUMP])


WAYS: dict[str, tuple[str, Callable[[dict[str, list[Event]]], Iterable[tuple[str, list[Event]]]]]] = {
    "publish": ("From publish to a client", _publish),
    "open": ("From accept to a parked stream", _open),
    "end": ("From SIGTERM to the farewell", _end),
}


def _steps(package: Path, way: str, recording: list[list[object]]) -> list[Step]:
    threads: dict[str, list[Event]] = {}
    for fields in recording:
        event = Event(*fields)  # type: ignore[arg-type]
        threads.setdefault(event.thread, []).append(event)
    found: dict[tuple[str, int], str] = {}
    try:
        for thread, events in WAYS[way][1](threads):
            for event in events:
                if event.file and event.kind in ("call", "wake"):
                    found.setdefault((event.file, event.line), _CALLED.get(thread, _CREW))
    except (KeyError, ValueError) as error:
        raise _Incomplete(f"no such thread or event: {error}") from error
    functions = names(package, {file for file, _ in found})
    return [(thread, functions[place]) for place, thread in found.items()]


# Recording them.


class _Client:
    """A client of the stream.

    :param port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")

    def read_until(self, text: bytes) -> None:
        """Read until some bytes have come."""
        read = b""
        while text not in read:
            piece = self._socket.recv(65536)
            if not piece:
                raise AssertionError(f"the stream ended after {read!r}")
            read += piece

    def close(self) -> None:
        """Leave."""
        self._socket.close()


class _Server:
    """The server and its commands; see :mod:`.three_ways_app`.

    :param gunicorn: the server.
    :param folder: its folder.
    """

    def __init__(self, gunicorn: GunicornServer, folder: Path) -> None:
        self._gunicorn = gunicorn
        self._folder = folder
        self._commands = socket.socket(socket.AF_UNIX)
        self._commands.settimeout(_SECONDS)
        self._commands.connect(str(folder / "commands"))

    def ask(self, command: str) -> int:
        """Have a command done; returns its number."""
        self._commands.sendall(f"{command}\n".encode())
        return int(self._commands.recv(100))

    def recording(self) -> list[list[object]]:
        """The last recording."""
        recording: list[list[object]] = json.loads((self._folder / "recording.json").read_text())
        return recording

    def probe(self) -> None:
        """Have the worker answer something else than a stream."""
        with socket.create_connection(("127.0.0.1", self._gunicorn.port), _SECONDS) as connection:
            connection.sendall(b"?\r\n\r\n")
            connection.recv(65536)

    def open(self) -> _Client:
        """Open a stream."""
        client = _Client(self._gunicorn.port)
        client.read_until(b"event: stream-start")
        return client

    def open_at_once(self) -> _Client:
        """Open a stream whose request is there when the worker accepts its connection."""
        (worker,) = self._gunicorn.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        try:
            wait_until(lambda: Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            client = _Client(self._gunicorn.port)
        finally:
            os.kill(worker, signal.SIGCONT)
        client.read_until(b"event: stream-start")
        return client

    def close(self) -> None:
        """Give no more commands."""
        self._commands.close()

    def end(self) -> None:
        """Send SIGTERM to the master."""
        self._gunicorn.terminate()

    def wait(self) -> None:
        """Wait until the server has ended."""
        self._gunicorn.wait()


@contextmanager
def _running(package: Path) -> Iterator[_Server]:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-")))
        path = [str(package.parent), str(_HARNESS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "PYTHONPATH": os.pathsep.join(path),
            "THREE_WAYS_FOLDER": str(folder),
        }
        gunicorn = GunicornServer(
            "three_ways_app:make_app()", config="python:three_ways_app", env=environment, cwd=folder
        )
        server = _Server(resources.enter_context(gunicorn), folder)
        resources.callback(server.close)
        yield server


def record(package: Path = PACKAGE) -> dict[str, list[Step]]:
    """The functions of each way, in order, from one recording; a way is left out if not all of it was seen.

    :param package: the folder of the package; default: the one that this Python imports.
    """
    recordings = {}
    with _running(package) as server:
        client = server.open()
        server.open().close()  # by the second stream of a channel it is known that the channel goes on
        wait_until(lambda: server.ask("streams") == 1)
        server.ask("publish")
        client.read_until(b"data: hello")
        # What a round does only now and then it does now, and not again while the clock is slow.
        time.sleep(_REST_SECONDS)
        server.ask("slow the clock")
        server.probe()
        time.sleep(_REST_SECONDS)

        server.ask("start")
        server.ask("publish")
        client.read_until(b"data: hello")
        server.ask("save")
        recordings["publish"] = server.recording()

        server.ask("start")
        other = server.open_at_once()
        wait_until(lambda: server.ask("streams") == 2)
        time.sleep(_REST_SECONDS)
        server.ask("save")
        recordings["open"] = server.recording()
        server.ask("right the clock")
        other.close()
        wait_until(lambda: server.ask("streams") == 1)
        time.sleep(_REST_SECONDS)

        server.ask("start")
        server.end()
        client.read_until(b"event: stream-end")
        client.close()
        server.wait()
        recordings["end"] = server.recording()
    steps = {}
    for way, recording in recordings.items():
        with suppress(_Incomplete):
            steps[way] = _steps(package, way, recording)
    return steps


def measure(package: Path = PACKAGE, *, tries: int = _TRIES) -> dict[str, list[Step]]:
    """The functions of each way, in order, as soon as two recordings agree.

    A timer that ends during a recording may add functions to it.

    :param package: the folder of the package; default: the one that this Python imports.
    :param tries: how many recordings to make at most.
    :raises AssertionError: no two agree.
    """
    seen: dict[str, list[list[Step]]] = {way: [] for way in WAYS}
    agreed: dict[str, list[Step]] = {}
    for _ in range(tries):
        for way, steps in record(package).items():
            if steps in seen[way]:
                agreed.setdefault(way, steps)
            seen[way].append(steps)
        if agreed.keys() == WAYS.keys():
            return {way: agreed[way] for way in WAYS}
    raise AssertionError(f"{tries} recordings differ; is the machine very busy?")


# The lists in docs/design.md.

_STEP = re.compile(r"^\d+\. (?P<names>`[\w/]+\.py \S+`(?:, `[\w/]+\.py \S+`)*)(?P<words>.*)$", re.MULTILINE)


def section(text: str, way: str) -> str:
    """The part of docs/design.md about a way, below its heading.

    :raises AssertionError: there is none.
    """
    found = re.search(rf"^### {WAYS[way][0]}\n(.*?)(?=^##)", text + "\n##", re.MULTILINE | re.DOTALL)
    if found is None:
        raise AssertionError(f"docs/design.md has no heading ### {WAYS[way][0]}")
    return found[1]


def written_names(text: str) -> list[str]:
    """The functions that a list names, in order."""
    return [name for step in _STEP.finditer(text) for name in _names_of(step)]


def _names_of(step: re.Match[str]) -> tuple[str, ...]:
    return tuple(name.strip("`") for name in step["names"].split(", "))


def summary(found: Collection[str]) -> str:
    """How many functions and files these are."""
    return f"{len(found)} functions in {len({name.split()[0] for name in found})} files"


def as_markdown(steps: list[Step], written: str = "") -> str:
    """The list of a way for docs/design.md: a step a function, in the words of its docstring or comment.

    :param written: the list so far; a step stays as it is, if its functions still follow each other.
    """
    kept = {_names_of(step): step["words"] for step in _STEP.finditer(written)}
    found = [function.name for _, function in steps]
    lines = ["", f"{summary(found)}."]
    number = at = 0
    while at < len(steps):
        thread, function = steps[at]
        if not at or thread != steps[at - 1][0]:
            lines += ["", f"In {_WHERE[thread]}:", ""]
        group: tuple[str, ...] = (function.name,)
        for names_kept in kept:
            if tuple(found[at : at + len(names_kept)]) == names_kept:
                group = names_kept
        words = kept.get(group, f": {function.purpose}.")
        number += 1
        lines.append(f"{number}. {', '.join(f'`{name}`' for name in group)}{words}")
        at += len(group)
    return "\n".join([*lines, "", ""])


def renewed(text: str, ways: dict[str, list[Step]]) -> str:
    """The text of docs/design.md with lists that say what runs now."""
    for way, steps in ways.items():
        old = section(text, way)
        text = text.replace(old, as_markdown(steps, old))
    return text


# The command.


def as_text(steps: list[Step]) -> str:
    """The list of a way, one line a function."""
    width = max(len(thread) for thread, _ in steps)
    lines = (
        f"{number:4}  {thread:{width}}  {function.name}" for number, (thread, function) in enumerate(steps, 1)
    )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.three_ways", description=__doc__.split("\n")[0])
    parser.add_argument("--package", type=Path, help="a checkout to count instead of this one")
    parser.add_argument("--markdown", action="store_true", help="print the lists for docs/design.md")
    parser.add_argument("--write", action="store_true", help="renew the lists in docs/design.md, but not words")
    arguments = parser.parse_args()
    package = arguments.package / "sse_threaded" if arguments.package else PACKAGE
    ways = measure(package.resolve())
    if arguments.write:
        DESIGN.write_text(renewed(DESIGN.read_text(encoding="utf-8"), ways), encoding="utf-8")
    for way, steps in ways.items():
        title = WAYS[way][0]
        if arguments.markdown:
            sys.stdout.write(f"### {title}\n{as_markdown(steps)}")
        else:
            found = summary([function.name for _, function in steps])
            sys.stdout.write(f"{title}: {found}\n\n{as_text(steps)}\n\n")


if __name__ == "__main__":
    main()
