"""live.js with real faults in its way: proxies, servers and networks that fail.

``test_live_faults.py`` and ``test_live_faults_firefox.py`` run these in their browsers.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import GunicornServer, request
from tests.browser.live_scenarios import SECONDS, STATE, Case
from tests.harness.gate import Gate
from tests.harness.live_page import LOG
from tests.harness.live_script import MODULES
from tests.harness.live_tabs import Published
from tests.support import ROOT, enter, missing, sqlite_url, temporary_directory, wait_until


class FaultCase(Case):
    def publish_until_live(self, tab: str, events: Published) -> None:
        """Each event ends a long poll; after some of them the client tries to stream."""
        for _ in range(50):
            events.once()
            with contextlib.suppress(AssertionError):
                self.tabs.wait(tab, f"{STATE} === 'live'", timeout=0.5)
                return
        self.wait_live(tab)


class ProxyFaults(FaultCase):
    def test_a_proxy_that_holds_streams_back(self) -> None:
        """The real compression of express, which waits for some kilobytes."""

        def stream(web: Request, channels: list[str]) -> Response:
            response = self.hub.stream(web, channels)
            if holds:
                response.headers["Cache-Control"] = "no-cache"  # without no-transform
            return response

        holds = True
        self.app.stream = stream
        url = self.make_proxy()
        first, second = self.open("a", server=url), self.open("a", server=url)
        for tab in (first, second):
            self.tabs.wait(tab, f"{STATE} === 'polling'")
        events = self.published("a")
        for _ in range(3):
            events.once()
            for tab in (first, second):
                self.wait_has(tab, events.ids["a"])
        # The proxy is repaired, and one of the next attempts to stream succeeds.
        holds = False
        self.publish_until_live(first, events)
        self.wait_live(second)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])

    def make_proxy(self) -> str:
        """Start the proxy; returns its URL."""
        node = shutil.which("node")
        if node is None:
            missing("node (apt-get install nodejs)")
        for package in ("express", "compression", "http-proxy-middleware"):
            if not (MODULES / package).is_dir():
                missing(f"{package} in {MODULES} (bash tests/run installs it)")
        program = Path(__file__).with_name("compressing_proxy.js")
        command = [node, str(program), str(MODULES), self.server.url]
        proxy = enter(self, subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self.addCleanup(proxy.kill)
        assert proxy.stdout is not None
        readable, _, _ = select.select([proxy.stdout], [], [], 30)
        self.assertTrue(readable, "the proxy does not start")
        return f"http://127.0.0.1:{int(proxy.stdout.readline())}"


class ServerFaults(FaultCase):
    """Faults of a server that a WSGI app can have by itself."""

    def test_503_for_a_while(self) -> None:
        tab = self.open("a")
        self.wait_live(tab)
        events = self.published("a")
        events.many(3)
        self.app.stream = lambda web, channels: Response(
            '{"detail": "Later."}', 503, {"Retry-After": "1"}, content_type="application/problem+json"
        )
        self.end_streams()
        self.tabs.wait(tab, f"{STATE} === 'reconnecting' && live.detail === 'Later.'")
        asked = len(self.app.requests)
        events.many(3)
        wait_until(lambda: len(self.app.requests) > asked + 2, timeout=SECONDS, message="further attempts")
        self.assertEqual(self.tabs.value(tab, STATE), "reconnecting")
        self.app.stream = self.hub.stream
        self.wait_live(tab)
        self.wait_has(tab, events.ids["a"])

    def test_retry_after_is_respected(self) -> None:
        self.app.stream = lambda web, channels: Response("", 503, {"Retry-After": "3600"})
        tab = self.open("a")
        self.tabs.wait(tab, f"{STATE} === 'reconnecting'")
        asked = len(self.app.requests)
        self.app.stream = self.hub.stream
        # Much longer than the usual waits of this page, which are below a second.
        self.tabs.run(tab, "setTimeout(() => { window.late = true; }, 2000)")
        self.tabs.wait(tab, "window.late")
        self.assertEqual((len(self.app.requests), self.tabs.value(tab, STATE)), (asked, "reconnecting"))
        # A person may try earlier.
        self.tabs.run(tab, "live.retry()")
        self.wait_live(tab)

    def test_a_gateway_that_has_no_streams(self) -> None:
        def stream(web: Request, channels: list[str]) -> Response:
            if web.headers["Accept"] == "text/event-stream" and fails:
                return Response("bad gateway", 502)
            return self.hub.stream(web, channels)

        fails = True
        self.app.stream = stream
        tab = self.open("a")
        self.tabs.wait(tab, f"{STATE} === 'polling'")
        events = self.published("a")
        events.many(3, 0.2)
        self.wait_has(tab, events.ids["a"])
        fails = False
        self.publish_until_live(tab, events)
        self.wait_has(tab, events.ids["a"])

    def test_a_stream_that_falls_silent(self) -> None:
        """It has no heartbeat: as after sleep, or behind a proxy that has lost its server."""
        silent = enter(self, Hub(heartbeat=None))
        first = True

        def stream(web: Request, channels: list[str]) -> Response:
            nonlocal first
            hub, first = (silent, False) if first else (self.hub, False)
            return hub.stream(web, channels)

        self.app.stream = stream
        tab = self.open("a", lastEventId="")
        self.wait_live(tab)
        self.tabs.wait(tab, "told.some(([, { detail }]) => detail === 'the stream fell silent')", timeout=SECONDS)
        self.wait_live(tab)
        last = self.hub.publish("a", "x")
        self.tabs.wait(tab, "got.a.at(-1) === arguments[0]", last)

    def end_streams(self) -> None:
        self.hub.disconnect(channel="a")


class NetworkFaults(Case):
    """A real server that is killed, stopped, or behind a network that breaks."""

    def setUp(self) -> None:
        super().setUp()
        self.log_url = sqlite_url(temporary_directory(self))
        self.hub = enter(self, Hub(self.log_url))
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "4"]
        env = {LOG: self.log_url, "PYTHONPATH": str(ROOT)}
        app = "tests.harness.live_page:create_app()"
        self.gunicorn = enter(self, GunicornServer(app, args=args, env=env, cwd=ROOT))
        self.gate = enter(self, Gate(self.gunicorn.port))

    def streams(self) -> int:
        found: int = json.loads(request("GET", self.gunicorn.url + "/health").body)["streams"]
        return found

    def wait_one_stream(self) -> None:
        wait_until(lambda: self.streams() == 1, timeout=SECONDS, message="one stream")

    def check(self, fault: contextlib.AbstractContextManager[None], number: int = 3) -> None:
        """Several tabs have each event once, before, during and after a fault."""
        tabs = [self.open("a", server=self.gate.url) for _ in range(number)]
        self.wait_live(*tabs)
        self.wait_one_stream()
        events = self.published("a")
        events.many(3)
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        with fault:
            for tab in tabs:
                self.tabs.wait(tab, f"{STATE} === 'reconnecting'")
            events.many(3)
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        self.wait_live(*tabs)
        events.many(3)
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        self.wait_one_stream()

    def test_a_network_that_is_cut(self) -> None:
        @contextmanager
        def fault() -> Iterator[None]:
            self.gate.cut()
            yield
            self.gate.mend()

        self.check(fault())

    def test_a_server_that_is_killed(self) -> None:
        @contextmanager
        def fault() -> Iterator[None]:
            self.gunicorn.kill()
            yield
            self.gunicorn.restart()

        self.check(fault(), number=10)

    def test_a_server_that_stops_without_a_word(self) -> None:
        """As a laptop that sleeps finds its server: the connection is open, and nothing comes."""

        @contextmanager
        def fault() -> Iterator[None]:
            pids = [self.gunicorn.pid, *self.gunicorn.worker_pids()]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)

        self.check(fault())

    def test_a_deploy(self) -> None:
        tabs = [self.open("a", server=self.gate.url) for _ in range(3)]
        self.wait_live(*tabs)
        events = self.published("a")
        events.many(3)
        self.gunicorn.hup()
        events.many(50)
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        self.wait_live(*tabs)
