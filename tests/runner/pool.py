"""Runs modules in processes of their own, several at a time.

Each process is a fork of this one, so it has the modules that this one has imported. All of this is one thread.

A module's first process imports it and tells its classes. They are handed out one by one, so that a process that
has nothing left to start may run some of them too.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from tests.runner import worker
from tests.runner.durations import Durations
from tests.runner.report import Report
from tests.runner.selection import Selected

_LOOK_SECONDS = 0.2  # between looks at processes that may have ended without a word
_INTERRUPTED_SECONDS = 15.0  # for the cleanups of tests after Ctrl-C
# A process whose own watch did not end it, as it is stopped, or its watch was set back: beyond the longest watch.
_SILENT_SECONDS = worker.HANGS_SECONDS + 60
_SHARED_SECONDS = 1.0  # less is not worth a second process, which imports the module again
_SHOWN_BYTES = 20_000  # of what a failed test printed: the last ones


class _Task:
    """A module and those of its classes that nobody runs yet; None until its first process has told them."""

    def __init__(self, selected: Selected, durations: Durations) -> None:
        self.module = selected.module
        self.names = selected.names
        self.durations = durations
        self.classes: list[str] | None = None
        self.processes = 0
        self.ended_early = False

    @property
    def seconds_left(self) -> float:
        """An estimate, of what nobody runs yet."""
        known = [self.durations.of_class(self.module, name) for name in self.classes or ()]
        return sum(_SHARED_SECONDS if seconds is None else seconds for seconds in known)

    def take_class(self) -> str | None:
        """The longest one that is left."""
        if not self.classes:
            return None
        taken = max(self.classes, key=lambda name: self.durations.of_class(self.module, name) or 0.0)
        self.classes.remove(taken)
        return taken


class _Process:
    """A process that runs classes of one module."""

    def __init__(self, task: _Task, *, path: Path, failfast: bool) -> None:
        self.task = task
        self.output: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (closed by close())
        to_read, their_writer = os.pipe()
        their_reader, to_write = os.pipe()
        self.pid = worker.fork(self.output, their_reader, their_writer, not_theirs=(to_read, to_write))
        self.exit_code: int | None = None
        os.close(their_reader)
        os.close(their_writer)
        self.reader = to_read
        self._writer = to_write
        self._unread = b""
        self.heard = time.monotonic()
        self.test = ""  # the one that runs
        self.failures: list[tuple[str, str]] = []  # of this test: title, why
        self.class_name: str | None = None
        self.class_began = 0.0
        self.output_from = 0  # where the test's output begins
        self.took_none = True
        self.is_done = False
        self.send({"module": task.module.name, "names": task.names, "path": str(path), "failfast": failfast})

    def send(self, message: dict[str, object]) -> None:
        try:
            os.write(self._writer, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            pass  # it has died, which is noticed by its end

    def receive(self) -> list[Any] | None:
        """The messages that have come; None at the end."""
        data = os.read(self.reader, 1 << 16)
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def printed(self) -> str:
        """What it printed since its present test began."""
        size = os.fstat(self.output.fileno()).st_size
        begin = max(self.output_from, size - _SHOWN_BYTES)
        return os.pread(self.output.fileno(), size - begin, begin).decode(errors="replace")

    def kill(self) -> None:
        """End it, and all that it left behind in its session's process group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)
        self.output.close()


class Pool:
    """Runs what was selected, and tells the report."""

    def __init__(
        self,
        selected: list[Selected],
        *,
        path: Path,
        at_once: int,
        failfast: bool,
        verbose: bool,
        report: Report,
        durations: Durations,
    ) -> None:
        tasks = [_Task(one, durations) for one in selected]
        tasks.sort(key=lambda task: (task.module.is_alone, -durations.of_module(task.module)))
        self._waiting = tasks
        self._running: list[_Process] = []
        self._path = path
        self._at_once = at_once
        self._failfast = failfast
        self._verbose = verbose
        self._report = report
        self._durations = durations
        self._selector = selectors.DefaultSelector()
        self._stops = False

    def run(self) -> None:
        """Run everything; Ctrl-C ends the tests that run, with their cleanups, and is raised again.

        :raises worker.Forked: this is a process for a module now.
        """
        try:
            while self._start_some() or self._running:
                self._look()
                if self._stops:
                    self._interrupt()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        except worker.Forked:
            for process in self._running:
                process.close()
            self._running.clear()  # they are the parent's
            raise
        finally:
            for process in self._running:
                process.kill()
            self._selector.close()

    def _start_some(self) -> bool:
        while not self._stops and len(self._running) < self._at_once:
            task = self._next_task()
            if task is None:
                break
            if not task.processes and task.classes is None:
                self._report.module_started(task.module)
            process = _Process(task, path=self._path, failfast=self._failfast)
            task.processes += 1
            self._running.append(process)
            self._selector.register(process.reader, selectors.EVENT_READ, process)
        return bool(self._running)

    def _next_task(self) -> _Task | None:
        """A module that nobody runs yet, or else the one with most classes left."""
        if any(process.task.module.is_alone for process in self._running):
            return None
        if self._waiting and not (self._waiting[0].module.is_alone and self._running):
            return self._waiting.pop(0)
        shared = {id(process.task): process.task for process in self._running}
        task = max(shared.values(), key=lambda task: task.seconds_left, default=None)
        return task if task is not None and task.seconds_left >= _SHARED_SECONDS else None

    def _look(self) -> None:
        for key, _ in self._selector.select(_LOOK_SECONDS):
            process: _Process = key.data
            messages = process.receive()
            if messages is None:
                self._selector.unregister(process.reader)
                continue
            for message in messages:
                self._take(process, message)
        for process in list(self._running):
            # Its own children do not count: one that a test forked may hold the pipe open for long.
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                process.kill()  # and then wait for it: afterwards another group may get its number
                _, status, used = os.wait4(process.pid, 0)
                process.exit_code = os.waitstatus_to_exitcode(status)
                self._end(process, used.ru_utime + used.ru_stime)
            elif time.monotonic() - process.heard > _SILENT_SECONDS:
                process.kill()
        self._report.tick([process.test or process.task.module.name for process in self._running])

    def _take(self, process: _Process, message: dict[str, Any]) -> None:
        task, module = process.task, process.task.module
        kind = message["kind"]
        if kind == "groups":
            if task.classes is None:
                task.classes = message["groups"]
        elif kind == "next":
            self._class_ended(process)
            process.class_name = None if self._stops else task.take_class()
            process.class_began = time.monotonic()
            process.took_none = process.took_none and process.class_name is None
            process.send({"group": process.class_name})
        elif kind == "started":
            process.test = message["test"]
            process.output_from = message["output"]
        elif kind == "finished":
            self._tell_failures(process)
            process.test = ""
            told = (message[name] for name in ("test", "outcome", "seconds", "processor"))
            self._report.test_finished(module, *told)
        elif kind == "failed" and not self._stops:
            if message["test"] == process.test:
                process.failures.append((message["title"], message["why"]))
            else:
                self._fail(process, message["test"], message["title"], message["why"])
        elif kind == "skipped":
            self._report.test_skipped(module, message["title"], message["why"])
        elif kind == "warning":
            self._report.warn(module.name, message["text"])
        elif kind == "done":
            self._class_ended(process)
            process.is_done = True

    def _class_ended(self, process: _Process) -> None:
        if process.class_name is not None and not process.task.names and not self._stops:
            seconds = time.monotonic() - process.class_began
            self._durations.remember(process.task.module, process.class_name, seconds)
        process.class_name = None

    def _tell_failures(self, process: _Process) -> None:
        """Report what failed in the test, after its cleanups: these print what its servers said."""
        for title, why in process.failures:
            self._fail(process, process.test, title, why)
        process.failures.clear()

    def _fail(self, process: _Process, test: str, title: str, why: str) -> None:
        self._report.test_failed(process.task.module, test, title, why, process.printed())
        if self._failfast:
            self._stops = True

    def _end(self, process: _Process, processor: float) -> None:
        if process.reader in self._selector.get_map():
            self._selector.unregister(process.reader)
            os.set_blocking(process.reader, False)
            try:
                while messages := process.receive():  # what it said last
                    for message in messages:
                        self._take(process, message)
            except BlockingIOError:
                pass
        self._tell_failures(process)
        self._running.remove(process)
        task, module = process.task, process.task.module
        task.processes -= 1
        self._report.process_ended(module, processor)
        code = process.exit_code
        if (code or not process.is_done) and not self._stops:
            where = f"in {process.test}" if process.test else "outside of a test"
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            if process.is_done:
                where = "after its tests, as something was left running"
            self._fail(process, process.test or module.name, module.name, f"Its process ended {how}, {where}.")
            # Another process runs the classes that are left, unless it would die as this one did.
            if process.took_none:
                task.classes = []
        elif self._verbose:
            process.output_from = 0
            if output := process.printed().rstrip():
                self._report.say(f"{module.name} printed:\n{output}")
        process.close()
        if task.classes and not self._stops:
            if not task.processes:
                self._waiting.insert(0, task)
        elif not task.processes:
            self._report.module_finished(module)

    def _interrupt(self) -> None:
        """End the tests that run; they have some seconds for their cleanups."""
        self._stops = True
        self._waiting.clear()
        deadline = time.monotonic() + _INTERRUPTED_SECONDS
        while self._running and time.monotonic() < deadline:
            for process in self._running:
                # Again and again: a signal that comes just before a system call does not interrupt it.
                os.kill(process.pid, worker.STOP_SIGNAL)  # not waited for yet, so the number is its own
            self._look()
        for process in self._running:
            process.kill()
        while self._running:
            self._look()
