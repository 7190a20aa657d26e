"""Records which of the package's functions run in a process, in which thread and in which order.

It sees the thread that calls :meth:`Recorder.install` and all threads that start later. A recording has these
events, each with the thread's name:

- ``call`` and ``return`` of a function of the package. A generator that goes on is a call, too.
- ``unused`` in place of the ``call`` of a generator that was closed before it began. Python 3.12 reports no such
  call.
- ``wait`` when a selector begins to wait, and ``wake`` when it has waited; likewise when a thread of the
  worker's crew sleeps. ``wake`` names the function of the package that waited. A look without waiting (a
  timeout of zero) is no event.
- ``accept`` when a connection was accepted.
- ``send`` before a Python call of ``socket.send`` or ``socket.sendall``.

:func:`names` gives the functions their names from the sources. This module imports nothing of the package, so it
can record any version of it.
"""

from __future__ import annotations

import ast
import dis
import inspect
import re
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

# The files whose threads sleep: on locks, and in an epoll object of its own.
_CREW = "server/crew.py"
_WATCHMAN = "server/watchman.py"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# The instruction at which a new generator waits; Python 3.10 has none.
_RETURN_GENERATOR = dis.opmap.get("RETURN_GENERATOR")

# Function names in a code object that are no functions in the source: modules, comprehensions.
_UNNAMED = re.compile(r"<(?!lambda)")


class Event(NamedTuple):
    """One event of a recording.

    :ivar thread: the thread's name.
    :ivar kind: ``call``, ``return``, ``unused``, ``wait``, ``wake``, ``accept`` or ``send``.
    :ivar file: the file of the function, below the package; empty where there is none.
    :ivar line: the function's first line.
    """

    thread: str
    kind: str
    file: str = ""
    line: int = 0


class Recorder:
    """Records the calls of functions whose files are below a folder.

    :param package: the package's folder.
    """

    def __init__(self, package: Path) -> None:
        self._package = f"{package}/"
        self._files: dict[CodeType, str] = {}
        self._sends = {send.__code__ for send in _replace_sends()}
        self._on = False
        self.events: list[Event] = []  # appended to by any thread

    def install(self) -> None:
        """Watch the calling thread and all that start later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def start(self) -> None:
        """Begin a new recording."""
        self.events = []
        self._on = True

    def stop(self) -> list[Event]:
        """End the recording and return it."""
        self._on = False
        return self.events

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if not self._on:
            return
        if event in ("call", "return"):
            code = frame.f_code
            if code in self._sends:
                if event == "call":
                    self._add("send")
                return
            file = self._file(code)
            if file:
                if event == "return" and _is_unused(frame):
                    self._mark_unused(code)
                self._add(event, file, code.co_firstlineno)
            return
        name = getattr(arg, "__name__", "")
        if name == "_accept" and event == "c_return":
            self._add("accept")
        elif name in ("poll", "select", "control") and frame.f_globals.get("__name__") == "selectors":
            if frame.f_locals.get("timeout") == 0:
                return
            self._add_wait(event, frame)
        elif name in ("acquire", "poll") and self._is_sleep(frame.f_code):
            self._add_wait(event, frame)

    def _is_sleep(self, code: CodeType) -> bool:
        return code.co_name == "sleep" and self._file(code) in (_CREW, _WATCHMAN)

    def _add_wait(self, event: str, frame: FrameType) -> None:
        if event == "c_call":
            self._add("wait")
        else:
            self._add("wake", *self._nearest(frame))

    def _add(self, kind: str, file: str = "", line: int = 0) -> None:
        self.events.append(Event(threading.current_thread().name, kind, file, line))

    def _mark_unused(self, code: CodeType) -> None:
        # The call is this thread's newest event. No index changes: other threads append at the same time.
        events, thread = self.events, threading.current_thread().name
        for index in range(len(events) - 1, -1, -1):
            event = events[index]
            if event.thread == thread:
                if event.kind == "call" and event.line == code.co_firstlineno:
                    events[index] = event._replace(kind="unused")
                return

    def _file(self, code: CodeType) -> str:
        """The file of a function of the package, below its folder; empty for all other code."""
        file = self._files.get(code)
        if file is None:
            path = code.co_filename
            own = path.startswith(self._package) and not _UNNAMED.match(code.co_name)
            file = self._files[code] = path[len(self._package) :] if own else ""
        return file

    def _nearest(self, frame: FrameType | None) -> tuple[str, int]:
        while frame is not None:
            file = self._file(frame.f_code)
            if file:
                return file, frame.f_code.co_firstlineno
            frame = frame.f_back
        return "", 0


def _is_unused(frame: FrameType) -> bool:
    """Whether a frame that returns is of a generator that was closed before it began."""
    if not frame.f_code.co_flags & inspect.CO_GENERATOR:
        return False
    return frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] == _RETURN_GENERATOR


def _replace_sends() -> list[Callable[..., Any]]:
    # The pump sends to many sockets by map(), which no profiler sees, so a Python function takes the place of
    # the method. The package must not be imported yet, as it keeps the method that it found.
    send_all, send_some = socket.socket.sendall, socket.socket.send

    def send(*args: Any) -> int:
        return send_some(*args)

    def sendall(*args: Any) -> None:
        return send_all(*args)

    socket.socket.send, socket.socket.sendall = send, sendall  # type: ignore[method-assign]
    return [send, sendall]


class Function(NamedTuple):
    """A function in the sources.

    :ivar name: its file below the package and its qualified name: ``fanout/pump.py Pump._run``.
    :ivar purpose: the first sentence of its docstring or of its first comment; may be empty.
    """

    name: str
    purpose: str


def names(package: Path, files: Iterable[str]) -> dict[tuple[str, int], Function]:
    """The functions of some files, by file and first line."""
    found: dict[tuple[str, int], Function] = {}
    for file in files:
        source = (package / file).read_text(encoding="utf-8")
        _name_inner(ast.parse(source), "", file, source.splitlines(), found)
    return found


def _name_inner(
    node: ast.AST, prefix: str, file: str, lines: list[str], found: dict[tuple[str, int], Function]
) -> None:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.ClassDef):
            inner = f"{prefix}{child.name}."
        elif isinstance(child, _FUNCTIONS):
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            found[file, first] = Function(f"{file} {prefix}{child.name}", _purpose(child, first, lines))
            inner = f"{prefix}{child.name}.<locals>."
        elif isinstance(child, ast.Lambda):
            found.setdefault((file, child.lineno), Function(f"{file} {prefix}<lambda>", ""))
        _name_inner(child, inner, file, lines, found)


def _purpose(function: ast.FunctionDef | ast.AsyncFunctionDef, first: int, lines: list[str]) -> str:
    text = ast.get_docstring(function) or _comment(lines[function.lineno : function.body[0].end_lineno])
    if not text:
        above = first - 1
        while above and lines[above - 1].lstrip().startswith("#"):
            above -= 1
        text = _comment(lines[above : first - 1])
    paragraph = textwrap.dedent(text).split("\n\n")[0]
    return re.split(r"(?<=[.;])\s", " ".join(paragraph.split()), maxsplit=1)[0].rstrip(".;")


def _comment(lines: list[str]) -> str:
    """The first comment of some lines."""
    found: list[str] = []
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("# "):
            found.append(stripped[2:])
        elif found:
            break
    return "\n".join(found)
