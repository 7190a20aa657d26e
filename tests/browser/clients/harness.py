"""The real server, the client programs, and the scenarios that each family of clients goes through.

A family is a group of clients that run at the same time against one server: :class:`Programs` (one process each)
or :class:`Frames` (one frame each in a browser). What a client hands to the app comes back as reports:
``{"start": true}`` is the stream's first block, ``{"n": 3}`` an event; ``{"error": ...}`` is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Protocol

from sse_threaded import Hub, open_log
from sse_threaded.testing import GunicornServer
from sse_threaded.testing.processes import ChildProcess
from tests.browser.clients.catalogue import PACKAGES, Client, require_packages
from tests.browser.clients.scissors import Scissors, lines_and_middles
from tests.support import ROOT, enter, missing, sqlite_url, temporary_directory, wait_until

# How often a client is cut off: at every place of an event, and at some twice.
CUTS = 12

# Between two looks at the reports: a look asks each browser.
_PAUSE_SECONDS = 0.05

# Seconds for one step. Some clients double their delay with each refused connection.
PATIENCE = 60

# Seconds in which a client that has stopped must send no request: many times the reconnection time.
_QUIET_SECONDS = 2


def forms(number: int) -> dict[str, tuple[object, str | None]]:
    """Event ``number`` as each kind of client takes it: by channel, its data and its name."""
    # More than a client reads at once, so that a cut in one event spares the one before.
    padding = "x" * 600
    item = f"<li>{number}<!--{padding}--></li>"
    stream = f'<turbo-stream action="append" target="numbers"><template>{item}</template></turbo-stream>'
    return {
        "json": ({"n": number, "padding": padding}, None),
        "html": (item, None),
        "named": (item, "number"),
        "turbo": (stream, None),
        "datastar": (f"mode append\nselector #numbers\nelements {item}", "datastar-patch-elements"),
    }


class Family(Protocol):
    """Running clients."""

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """What each has reported so far."""

    def close(self) -> None:
        """End them."""


class Programs:
    """Each client a process that prints its reports, one a line.

    :param may_end: whether they may end, with the status 0; default ``False``: that is an error.
    """

    def __init__(self, clients: Sequence[Client], url: str, *, may_end: bool = False) -> None:
        self._may_end = may_end
        self._running = {}
        with contextlib.ExitStack() as resources:
            for client in clients:
                if shutil.which(client.program[0]) is None:
                    missing(f"{client.program[0]} (apt-get install nodejs npm)")
                # A file and not a pipe: it is read again and again from its beginning.
                output = resources.enter_context(tempfile.TemporaryFile())
                env = {**os.environ, "EVENTS": f"{url}/events/{client.name}/{client.channel}"}
                process = ChildProcess(client.program, output=output, env=env, cwd=PACKAGES)
                resources.callback(process.kill)
                self._running[client.name] = (process, output)
            self.close = resources.pop_all().close

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for name, (process, output) in self._running.items():
            text = os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).decode()
            if process.poll() is not None and not (self._may_end and process.poll() == 0):
                raise AssertionError(f"{name} has ended with status {process.poll()}:\n{text}")
            lines = text[: text.rfind("\n") + 1].splitlines()
            found[name] = [json.loads(line) if line.startswith("{") else {"error": line} for line in lines]
        return found


class Frames:
    """Each client a frame of one page, in a browser that a test keeps open.

    :param browser: has ``get(url)`` and ``execute_script(text)``, as selenium's drivers.
    """

    def __init__(self, browser: Any, clients: Sequence[Client], url: str) -> None:
        self._browser = browser
        port = url.rpartition(":")[2]
        names = ",".join(client.name for client in clients)
        browser.get(f"http://localhost:{port}/pages/frames.html?clients={names}" if clients else "about:blank")

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = self._browser.execute_script("return window.seen || {}")
        return found

    def close(self) -> None:
        self._browser.get("about:blank")


class Together:
    """Several families as one."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        return {name: reports for family in self._families for name, reports in family.reports().items()}

    def close(self) -> None:
        for family in self._families:
            family.close()


class Scenarios:
    """The scenarios, for a TestCase that says which clients and how they are started."""

    clients: Sequence[Client]
    may_end = False  # whether a program may end, with the status 0

    def start(self, url: str) -> Family:
        """The clients, started."""
        raise NotImplementedError

    def serve(self, **env: str) -> None:
        """The server, and a log that this process appends to."""
        require_packages()
        directory = temporary_directory(self)
        self.full = directory / "full"
        self.requests = directory / "requests"
        self.requests.touch()
        self.log = open_log(sqlite_url(directory))
        self.addCleanup(self.log.close)
        env |= {"LOG": self.log.url, "FULL": str(self.full)}
        env |= {"REQUESTS": str(self.requests), "PACKAGES": str(PACKAGES)}
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8"]
        server = GunicornServer("tests.browser.clients.app:create_app()", args=args, env=env, cwd=ROOT)
        self.server = enter(self, server)
        self.published = 0

    def run_clients(self, *, url: str = "", started: bool = True) -> None:
        self.family = self.start(url or self.server.url)
        self.addCleanup(self.family.close)
        if started:
            self.wait(lambda reports, _: {"start": True}.items() <= _united(reports), "the stream's first block")

    def publish(self, count: int) -> None:
        """The next ``count`` numbers, each once in every form."""
        for _ in range(count):
            self.published += 1
            for channel, (data, event) in forms(self.published).items():
                self.log.append(channel, data, event)

    def wait(self, condition: Any, what: str) -> None:
        """Wait until ``condition(reports, requests)`` is true of each client."""
        late: list[str] = []

        def is_true() -> bool:
            reports = self.family.reports()
            requests = self.requested()
            late[:] = [c.name for c in self.clients if not condition(reports[c.name], requests.get(c.name, []))]
            if late:
                time.sleep(_PAUSE_SECONDS)
            return not late

        try:
            wait_until(is_true, timeout=PATIENCE, message=what)
        except AssertionError as error:
            seen = {name: reports[-8:] for name, reports in self.family.reports().items() if name in late}
            raise AssertionError(f"{error}; late: {seen}; requests: {self.requests.read_text()[-2000:]}") from None

    def wait_for_all(self) -> None:
        """Wait until each client has the last event; by then it must have all, once and in order."""
        self.wait(lambda reports, _: {"n": self.published} in reports, f"event {self.published}")
        for name, reports in self.family.reports().items():
            with self.subTest(name):
                self.assertEqual(numbers(reports), list(range(1, self.published + 1)))
                self.assertEqual([report for report in reports if "error" in report], [])

    def test_cut_off_in_the_middle_of_events_it_has_each_once(self):
        hasty = {client.name for client in self.clients if client.hasty}

        def places(name: str, event: bytes) -> list[int]:
            # Between the id's line and the blank line such a client loses the event; no order of the lines helps.
            return [place for place in lines_and_middles(event) if name not in hasty or place != len(event) - 1]

        self.serve(RETRY="1")
        scissors = Scissors(self.server.port, places, CUTS)
        self.addCleanup(scissors.close)
        self.run_clients(url=scissors.url)
        self.publish(25)
        self.wait_for_all()
        self.assertEqual(scissors.cuts, {client.name: CUTS for client in self.clients})

    def _publish_and_count(self) -> bool:
        self.publish(1)
        requests = self.requested()
        return all(len(requests.get(client.name, [])) >= 4 for client in self.clients)

    def requested(self) -> dict[str, list[dict[str, Any]]]:
        """The requests for events so far, by client."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in self.requests.read_text(encoding="utf-8").splitlines():
            request = json.loads(line)
            found.setdefault(request["client"], []).append(request)
        return found

    def test_killed_before_its_first_event_it_comes_back_with_the_id_of_the_first_block(self):
        self.serve()
        begin = self.log.last_event_id()
        self.run_clients()
        self.server.kill()
        self.publish(5)
        self.server.restart()
        self.wait_for_all()
        for name, requests in self.requested().items():
            with self.subTest(name):
                self.assertEqual([request["last_event_id"] for request in requests[:2]], [None, begin])
        self.publish(3)
        self.wait_for_all()

    def test_after_a_farewell_it_has_what_was_published_while_the_server_was_away(self):
        self.serve()
        self.run_clients()
        self.publish(3)
        self.wait_for_all()
        self.server.terminate()
        self.server.wait()
        self.publish(5)
        self.server.restart()
        self.wait_for_all()
        self.publish(3)
        self.wait_for_all()

    def test_where_there_is_no_room_it_comes_back_until_there_is(self):
        self.serve()
        self.full.touch()
        self.run_clients(started=False)
        self.wait(lambda _, requests: requests, "a first request, that gets no stream")
        self.full.unlink()
        self.wait(lambda reports, _: {"start": True}.items() <= _united(reports), "the first stream")
        self.publish(3)
        self.wait_for_all()
        before = {name: len(requests) for name, requests in self.requested().items()}
        self.full.touch()
        self.server.hup()  # all streams end
        self.publish(5)
        self.wait(lambda _, requests: len(requests) > before[requests[0]["client"]], "another one without room")
        self.full.unlink()
        self.wait_for_all()

    def finish(self) -> None:
        """Two more events in each channel, and its end."""
        self.serve()
        self.run_clients()
        self.publish(3)
        self.wait_for_all()
        self.publish(2)
        with Hub(self.log.url) as hub:
            for channel in forms(0):
                hub.finish(channel)

    def test_where_its_channel_is_finished_it_has_all_and_stops(self):
        self.may_end = True
        self.finish()
        self.wait_for_all()
        # Where the page itself closes at "stream-finished" there is no second request.
        closing = {client.name for client in self.clients if "stream-finished" in client.at_the_end}
        self.wait(
            lambda _, requests: len(requests) == (1 if requests[0]["client"] in closing else 2),
            "the request that the status 204 answers",
        )
        time.sleep(_QUIET_SECONDS)
        for name, requests in self.requested().items():
            with self.subTest(name):
                self.assertEqual(len(requests), 1 if name in closing else 2)

    def test_over_the_ends_of_leases_nothing_is_lost_or_doubled(self):
        self.serve(LEASE="0.5")
        self.run_clients()

        wait_until(self._publish_and_count, timeout=PATIENCE, message="three leases of each client")
        self.wait_for_all()


def numbers(reports: list[dict[str, Any]]) -> list[Any]:
    """The events among the reports; a message that has no number is ``None``."""
    return [report.get("n") for report in reports if not report.keys() & {"start", "open", "end", "error"}]


def _united(reports: list[dict[str, Any]]) -> Any:
    return {name: value for report in reports for name, value in report.items()}.items()
