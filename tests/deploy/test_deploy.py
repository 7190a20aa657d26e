"""What is in deploy/, run: the real nginx and Caddy before the real gunicorn, and what systemd would do."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.reload.board_server import ACTIVATE
from sse_threaded import Hub
from sse_threaded.board import settings
from sse_threaded.testing import GunicornServer, request
from sse_threaded.testing.processes import ChildProcess
from tests.harness.caddy_server import Caddy
from tests.harness.chromium import chromium, wait_for
from tests.harness.curl_stream import CurlStream
from tests.harness.nginx_server import Nginx
from tests.harness.redis_server import RedisServer
from tests.support import ROOT, enter, free_port, missing, sqlite_url, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

DEPLOY = ROOT / "deploy"
EVENTS = "/boards/board-1/events"
TASKS = "/boards/board-1/tasks"
SECONDS = 30

# A page's own stream.
FOLLOW = """
window.source = new EventSource(arguments[0]);
source.onmessage = (event) => { window.got = event.data; };
"""

# An answer that all sockets on its way together do not hold.
LARGE = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", "40000000")])
    return [b"x" * 40_000_000]
"""


def curl(*args: str) -> str:
    """What curl prints."""
    done = subprocess.run(["curl", "-sS", *args], capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise AssertionError(f"curl {args}: {done.stderr}")
    return done.stdout


def program(name: str, package: str) -> str:
    """The path of a program, or the test ends."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} (apt-get install {package})")
    return found


def streams(server: GunicornServer) -> int:
    """How many streams the server's one worker has."""
    count: int = request("GET", server.url + "/healthz").json()["streams"]
    return count


def post(url: str, title: str) -> None:
    """Make a task, at gunicorn itself."""
    assert request("POST", url + TASKS, json={"title": title}).status == 201


def contains(text: Callable[[], str], what: str) -> bool:
    """Whether there is ``what`` in a text that grows."""
    return what in text()


class DeployTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.directory.chmod(0o755)  # nginx's processes have another user
        self.log_url = sqlite_url(self.directory)
        self.socket = self.directory / "app.sock"

    def serve(self, *args: str, name: str = "app.sock", **env: str) -> GunicornServer:
        """One worker, on the socket that nginx knows and on a port for looking at it."""
        env = {"SSE_THREADED_URL": self.log_url, "SSE_THREADED_PROXIES": "1", **env}
        args = ("-w", "1", "-b", f"unix:{self.directory / name}", *args)
        config = DEPLOY / "gunicorn.conf.py"
        return enter(self, GunicornServer(config=config, args=args, env=env, cwd=self.directory))

    def proxy(self, *upstreams: str, changes: dict[str, str] | None = None) -> Nginx:
        """The nginx, before the socket unless upstreams are named."""
        return enter(self, Nginx(self.directory, *(upstreams or [f"unix:{self.socket}"]), changes=changes))

    def wait_for_streams(self, server: GunicornServer, count: int) -> None:
        wait_until(lambda: streams(server) == count, timeout=SECONDS, message=f"{count} streams")

    def stream(self, nginx: Nginx, *args: str) -> CurlStream:
        return enter(self, CurlStream(nginx.url + EVENTS, nginx.certificate, *args))


class NginxTest(DeployTest):
    def test_each_event_is_there_before_the_next_is_published(self) -> None:
        server = self.serve()
        for name, upstream in (("unix", f"unix:{self.socket}"), ("tcp", f"127.0.0.1:{server.port}")):
            nginx = self.proxy(upstream)
            for flag, version in (("--http2", "http/2"), ("--http1.1", "http/1.1")):
                with self.subTest(upstream=name, version=version):
                    stream = self.stream(nginx, flag)
                    stream.wait_for_id()  # the first bytes, before any event
                    self.assertTrue(stream.head.startswith(f"{version} 200"), stream.head)
                    self.assertTrue(stream.raw.startswith(b"retry: 5000\nevent: stream-start\nid: "), stream.raw)
                    self.assertIn("\r\ncontent-type: text/event-stream; charset=utf-8\r\n", stream.head)
                    for number in range(5):
                        post(server.url, f"Task {number}")
                        self.assertIn(f"Task {number}", stream.next_event().data)

    def test_other_answers_are_taken_from_the_app_at_once(self) -> None:
        (self.directory / "large.py").write_text(LARGE)
        log = ["--access-logfile", "-", "--access-logformat", "done: %(U)s"]
        args = ["-b", f"unix:{self.socket}", "--timeout", "600", *log]  # it must not be ended for being held up
        enter(self, server := GunicornServer("large:app", args=args, cwd=self.directory))
        nginx = self.proxy()
        command = ["curl", "-sS", "--limit-rate", "1k", "--cacert", str(nginx.certificate), nginx.url + "/large"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as slow:
            try:
                wait_until(partial(contains, server.output, "done: /large"), timeout=SECONDS, message="the app")
                self.assertIsNone(slow.poll())
            finally:
                slow.kill()

    def test_a_hang_up_reaches_the_app_without_a_write(self) -> None:
        server = self.serve(SSE_THREADED_HEARTBEAT="600")
        nginx = self.proxy()
        for version in ("--http2", "--http1.1"):
            with self.subTest(version=version):
                stream = self.stream(nginx, version)
                stream.wait_for_id()
                self.assertEqual(streams(server), 1)
                stream.close()
                self.wait_for_streams(server, 0)

    def test_the_app_knows_the_clients_address_and_scheme(self) -> None:
        form = "%(h)s %({wsgi.url_scheme}e)s %(r)s"
        server = self.serve("--access-logfile", "-", "--access-logformat", form)
        for number, upstream in enumerate((f"unix:{self.socket}", f"127.0.0.1:{server.port}"), 2):
            with self.subTest(upstream=upstream):
                nginx = self.proxy(upstream)
                lie = ("-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Forwarded-Proto: http")
                stream = self.stream(nginx, "--interface", f"127.0.0.{number}", *lie)
                stream.wait_for_id()
                stream.close()
                line = f"127.0.0.{number} https GET {EVENTS} HTTP/1.1\n"
                wait_until(partial(contains, server.output, line), message=line)
        self.assertNotIn("203.0.113.9", server.output())

    def test_without_the_variable_what_a_client_says_of_itself_is_not_believed(self) -> None:
        form = "%(h)s %({wsgi.url_scheme}e)s %(U)s"
        server = self.serve("--access-logfile", "-", "--access-logformat", form, SSE_THREADED_PROXIES="0")
        request("GET", server.url + "/healthz", headers={"X-Forwarded-For": "203.0.113.9"})
        wait_until(lambda: "127.0.0.1 http /healthz\n" in server.output())
        self.assertNotIn("203.0.113.9", server.output())
        # Nor is what a Unix socket or this machine says of the scheme, which gunicorn would believe by default.
        nginx = self.proxy()
        curl("--cacert", str(nginx.certificate), nginx.url + "/boards/board-1")
        wait_until(lambda: " http /boards/board-1\n" in server.output())

    def test_heartbeats_outlast_the_time_that_silence_may_take(self) -> None:
        server = self.serve(SSE_THREADED_HEARTBEAT="0.2")
        nginx = self.proxy(changes={"proxy_read_timeout 75s": "proxy_read_timeout 3s"})
        stream = self.stream(nginx)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 7, timeout=SECONDS)
        self.assertFalse(stream.ended)
        post(server.url, "Still there")
        self.assertIn("Still there", stream.next_event().data)

    def test_without_heartbeats_the_proxy_ends_a_silent_stream(self) -> None:
        server = self.serve(SSE_THREADED_HEARTBEAT="600")
        nginx = self.proxy(changes={"proxy_read_timeout 75s": "proxy_read_timeout 1s"})
        stream = self.stream(nginx)
        stream.wait_for_end()
        self.wait_for_streams(server, 0)

    def test_head_and_what_a_client_missed_and_long_polls(self) -> None:
        server = self.serve()
        nginx = self.proxy()
        trust = ("--cacert", str(nginx.certificate))
        self.assertTrue(curl("-I", *trust, nginx.url + EVENTS).lower().startswith("http/2 200"))
        stream = self.stream(nginx)
        stream.wait_for_id()
        for number in range(3):
            post(server.url, f"Task {number}")
        seen = [stream.next_event() for _ in range(3)]
        again = self.stream(nginx, "-H", f"Last-Event-ID: {seen[0].last_event_id}")
        self.assertEqual([again.next_event(), again.next_event()], seen[1:])
        poll = [*trust, "-H", "Accept: application/json", f"{nginx.url}{EVENTS}?wait=60"]
        with subprocess.Popen(["curl", "-sS", *poll], stdout=subprocess.PIPE) as waiting:
            self.wait_for_streams(server, 3)
            post(server.url, "For the poll")
            answer = json.loads(waiting.communicate(timeout=SECONDS)[0])
        (event,) = answer["events"]
        self.assertEqual(json.loads(event["data"])["task"]["title"], "For the poll")
        late = json.loads(curl(*poll[:-1], f"{nginx.url}{EVENTS}?lastEventId={seen[1].last_event_id}"))
        self.assertEqual(late["events"][0]["id"], seen[2].last_event_id)

    def test_a_reload_of_nginx_leaves_streams_alone(self) -> None:
        server = self.serve()
        nginx = self.proxy()
        stream = self.stream(nginx)
        stream.wait_for_id()
        old = nginx.worker_pids()
        nginx.reload()
        wait_until(lambda: nginx.worker_pids() - old, timeout=SECONDS, message="new processes of nginx")
        later = self.stream(nginx)
        later.wait_for_id()
        for number in range(5):
            post(server.url, f"Task {number}")
            self.assertEqual(stream.next_event(), later.next_event())

    def test_two_hosts_are_restarted_one_after_the_other(self) -> None:
        log = RedisServer()
        self.addCleanup(log.close)
        self.log_url = log.url()
        hosts = [self.serve(name=f"{number}.sock") for number in range(2)]
        nginx = self.proxy(*(f"127.0.0.1:{host.port}" for host in hosts))
        trust = ("--cacert", str(nginx.certificate))
        done = threading.Event()
        ids: list[str] = []

        def follow() -> None:
            # As EventSource does, but at once.
            while not done.is_set():
                since = ["-H", f"Last-Event-ID: {ids[-1]}"] if ids else []
                with CurlStream(nginx.url + EVENTS, nginx.certificate, *since) as stream:
                    while not done.is_set() and (stream.events or not stream.ended):
                        if stream.events:
                            ids.append(stream.events.popleft().last_event_id)
                        else:
                            time.sleep(0.01)

        follower = threading.Thread(target=follow)
        follower.start()
        try:
            wait_until(lambda: sum(map(streams, hosts)) == 1, message="the stream")
            for host in hosts:
                host.terminate()
                host.wait()
                # The other takes all there is to do: also what changes something, as none of it has been sent.
                for number in range(10):
                    url, body = nginx.url + TASKS, json.dumps({"title": f"Task {number}"})
                    status = curl(*trust, "-o", os.devnull, "-w", "%{http_code}", "--json", body, url)
                    self.assertEqual(status, "201")
                host.restart()
            wait_until(lambda: len(ids) >= 20, timeout=60, message="twenty events")
        finally:
            done.set()
            follower.join()
        self.assertEqual([event_id.rpartition("-")[2] for event_id in ids], [str(n) for n in range(1, 21)])

    def test_http_is_sent_to_https(self) -> None:
        self.serve()
        nginx = self.proxy()
        answer = curl("-i", f"http://localhost:{nginx.plain_port}/boards/board-1?x=1").lower()
        self.assertTrue(answer.startswith("http/1.1 308"), answer)
        self.assertIn(f"\nlocation: {nginx.url}/boards/board-1?x=1\n", answer)

    def test_nginx_finds_no_fault_with_the_file(self) -> None:
        done = self.proxy().check()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("[warn]", done.stderr)
        self.assertNotIn("[emerg]", done.stderr)


class NginxBrowserTest(DeployTest):
    """nginx before Chromium."""

    browser: Any

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as stack:
            cls.browser = stack.enter_context(chromium(1280, 800, "--ignore-certificate-errors"))
            cls.addClassCleanup(stack.pop_all().close)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.close_tabs)

    def close_tabs(self) -> None:
        """Close all tabs but a new one: a page that is only left may be kept, and its stream with it."""
        old = self.browser.window_handles
        self.browser.switch_to.new_window("tab")
        new = self.browser.current_window_handle
        for tab in old:
            self.browser.switch_to.window(tab)
            self.browser.close()
        self.browser.switch_to.window(new)

    def test_twenty_tabs_share_one_connection_and_hang_up_one_by_one(self) -> None:
        # Heartbeats are far away: only the hang-ups themselves can tell that a tab is gone.
        server = self.serve(SSE_THREADED_HEARTBEAT="600")
        log = self.directory / "tabs.log"
        lines = f"http {{\nlog_format tabs '$connection $server_protocol $uri';\naccess_log {log} tabs;\n"
        nginx = self.proxy(changes={"http {\n": lines})
        browser = self.browser
        # Not the board's page, which lets its stream go when it has been hidden for a while.
        browser.get(nginx.url + "/healthz")
        browser.execute_script(FOLLOW, EVENTS)
        for _ in range(19):
            # A tab that a page opens starts in its process. One that the driver opens would start another.
            old = set(browser.window_handles)
            browser.execute_script("open(arguments[0])", nginx.url + "/healthz")
            (new,) = set(browser.window_handles) - old
            browser.switch_to.window(new)
            wait_for(browser, "location.pathname === '/healthz' && document.readyState === 'complete'")
            browser.execute_script(FOLLOW, EVENTS)
        self.wait_for_streams(server, 20)
        post(server.url, "For all tabs")
        for tab in browser.window_handles:
            browser.switch_to.window(tab)
            wait_for(browser, "(window.got || '').includes('For all tabs')")
        for left in (19, 18, 17):
            browser.close()
            browser.switch_to.window(browser.window_handles[0])
            self.wait_for_streams(server, left)
        self.close_tabs()
        self.wait_for_streams(server, 0)

        def most() -> int:
            """How many streams the connection had that had the most; nginx writes a line when one has ended."""
            lines = [line for line in log.read_text().splitlines() if line.endswith(f" HTTP/2.0 {EVENTS}")]
            return max(Counter(line.split()[0] for line in lines).values(), default=0)

        wait_until(lambda: most() >= 20, timeout=SECONDS, message="twenty streams of one connection")

    def test_while_the_app_is_down_streams_are_told_to_come_back(self) -> None:
        server = self.serve()
        nginx = self.proxy()
        trust = ("--cacert", str(nginx.certificate))
        browser = self.browser
        browser.get(nginx.url + "/boards/board-1")
        browser.execute_script(FOLLOW, EVENTS)
        wait_for(browser, "source.readyState === EventSource.OPEN")
        browser.execute_script("window.down = 0; source.onopen = () => { window.down += 1 }")
        server.kill()
        told = self.stream(nginx)
        told.wait_for_end()
        self.assertTrue(told.head.startswith("http/2 200"), told.head)
        self.assertRegex(told.raw, rb"\Aretry: [2345]000\nevent: stream-unavailable\ndata: {}\n\n\Z")
        others = curl("-i", *trust, "-X", "POST", nginx.url + TASKS).lower()
        self.assertTrue(others.startswith("http/2 503"), others)
        self.assertIn("\nretry-after: 5\n", others)
        wait_for(browser, "window.down > 1", timeout=60)  # it has been told, and has come again
        server.restart()
        post(server.url, "Back again")
        wait_for(browser, "source.readyState === EventSource.OPEN", timeout=60)
        wait_for(browser, "document.body.textContent.includes('Back again')", timeout=60)
        post(server.url, "And on")
        wait_for(browser, "(window.got || '').includes('And on')", timeout=60)


class SystemdTest(DeployTest):
    def test_systemd_finds_no_fault_with_the_units(self) -> None:
        verify = program("systemd-analyze", "systemd")
        paths = []
        for name in ("sse-threaded.service", "sse-threaded.socket"):
            text = (DEPLOY / name).read_text(encoding="utf-8")
            # It looks whether the program is there, which here has another path.
            text = text.replace("/opt/sse-threaded/.venv/bin/gunicorn", sys.executable)
            paths.append(self.directory / name)
            paths[-1].write_text(text, encoding="utf-8")
        command = [verify, "verify", "--man=no", "--recursive-errors=no", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_the_first_connection_starts_it(self) -> None:
        activate = program("systemd-socket-activate", "systemd")
        port = free_port()
        variables = [f"--setenv=SSE_THREADED_URL={self.log_url}", f"--setenv=PATH={os.environ['PATH']}"]
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", str(DEPLOY / "gunicorn.conf.py")]
        command = [activate, f"--listen=127.0.0.1:{port}", *variables, *gunicorn]
        with tempfile.TemporaryFile() as output:
            child = ChildProcess(command, output=output, env=os.environ, cwd=self.directory)
            self.addCleanup(child.kill)

            def answers() -> bool:
                try:
                    return request("GET", f"http://127.0.0.1:{port}/healthz", timeout=SECONDS).status == 200
                except ConnectionRefusedError:  # it does not listen yet
                    return False

            wait_until(answers, timeout=SECONDS, message="the board")
            output.seek(0)
            self.assertIn(f"Listening at: http://127.0.0.1:{port}".encode(), output.read())
            child.kill()

    def test_while_it_is_restarted_connections_wait_and_none_is_refused(self) -> None:
        listener = enter(self, socket.create_server(("127.0.0.1", 0), backlog=4096))
        notices = enter(self, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(self.directory / "notify"))
        notices.settimeout(SECONDS)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env = {
            **os.environ,
            "SSE_THREADED_URL": self.log_url,
            "NOTIFY_SOCKET": str(self.directory / "notify"),
        }
        config = str(DEPLOY / "gunicorn.conf.py")

        def start() -> ChildProcess:
            command = [sys.executable, "-c", ACTIVATE, str(listener.fileno()), "-m", "gunicorn", "-c", config]
            with (self.directory / "output").open("ab") as output:
                given = [listener.fileno()]
                started = ChildProcess(command, output=output, env=env, cwd=self.directory, pass_fds=given)
            self.addCleanup(started.kill)
            return started

        def end(started: ChildProcess) -> None:
            started.signal(signal.SIGTERM)
            wait_until(lambda: started.poll() is not None, timeout=SECONDS, message="its end")
            self.assertEqual(started.poll(), 0)

        answers: list[int] = []
        faults: list[OSError] = []
        done = threading.Event()

        def more_answers() -> None:
            had = len(answers)
            wait_until(lambda: len(answers) > had + 20, timeout=SECONDS, message="more answers")

        def ask() -> None:
            while not done.is_set():
                try:
                    answers.append(request("GET", url + "/healthz", timeout=SECONDS).status)
                except OSError as error:
                    faults.append(error)

        service = start()
        self.assertIn(b"READY=1", notices.recv(4096))
        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        try:
            for _ in range(3):
                more_answers()
                end(service)
                service = start()
                self.assertIn(b"READY=1", notices.recv(4096))
            more_answers()
        finally:
            done.set()
            for thread in asking:
                thread.join()
        end(service)
        self.assertEqual(faults, [])
        self.assertEqual(set(answers), {200})


class CaddyTest(DeployTest):
    def test_caddy_passes_streams_on_and_says_who_the_client_is(self) -> None:
        form = "%(h)s %({wsgi.url_scheme}e)s %(U)s %({connection}i)s"
        server = self.serve("--access-logfile", "-", "--access-logformat", form, SSE_THREADED_HEARTBEAT="600")
        caddy = enter(self, Caddy(self.directory, f"unix/{self.socket}"))
        done = caddy.check()
        self.assertEqual(done.returncode, 0, done.stderr)
        url, chain = caddy.url, caddy.certificate
        lie = ("-H", "X-Forwarded-For: 203.0.113.9")
        with CurlStream(url + EVENTS, chain, "--interface", "127.0.0.2", *lie) as stream:
            stream.wait_for_id()
            self.assertTrue(stream.head.startswith("http/2 200"), stream.head)
            for number in range(5):
                post(server.url, f"Task {number}")
                self.assertIn(f"Task {number}", stream.next_event().data)
            self.assertEqual(streams(server), 1)
        self.wait_for_streams(server, 0)
        # No connection is kept: a POST on one that a worker closes at its end would be answered with a 502.
        line = f"127.0.0.2 https {EVENTS} close\n"
        wait_until(partial(contains, server.output, line), message=line)
        server.kill()
        with CurlStream(url + EVENTS, chain) as told:
            told.wait_for_end()
            self.assertTrue(told.head.startswith("http/2 200"), told.head)
            self.assertIn("\r\ncontent-type: text/event-stream", told.head)
            self.assertEqual(told.raw, b"retry: 5000\nevent: stream-unavailable\ndata: {}\n\n")
        others = curl("--cacert", str(chain), "-o", os.devnull, "-w", "%{http_code}", url + "/healthz")
        self.assertEqual(others, "502")


class SettingsTest(unittest.TestCase):
    def setUp(self) -> None:
        text = (DEPLOY / "sse-threaded.env").read_text(encoding="utf-8")
        self.set = dict(re.findall(r"^(SSE_THREADED_\w+)=(.*)$", text, re.MULTILINE))
        self.defaults = dict(re.findall(r"^#(SSE_THREADED_\w+)=(.*)$", text, re.MULTILINE))

    def test_the_environment_file_has_every_variable(self) -> None:
        board = Path(settings.__file__).parent
        read = set(re.findall(r'"(SSE_THREADED_\w+)"', "".join(path.read_text() for path in board.glob("*.py"))))
        self.assertEqual({*self.set, *self.defaults}, read)
        told = (DEPLOY / "gunicorn.conf.py").read_text(encoding="utf-8")
        self.assertEqual({name for name in read if name not in told}, set())

    def test_what_is_commented_out_is_the_default(self) -> None:
        self.assertEqual(settings.proxy_count(self.set), 1)
        given = settings.hub_settings(self.defaults)
        connections, threads = (int(self.defaults[f"SSE_THREADED_{name}"]) for name in ("CONNECTIONS", "THREADS"))
        self.assertEqual(given.pop("max_streams"), connections - threads)
        parameters = inspect.signature(Hub).parameters
        self.assertLessEqual({"queue_size", "retry", "heartbeat", "lease"}, given.keys())
        self.assertEqual(given, {name: parameters[name].default for name in given})
        code = "import json, runpy, sys; found = runpy.run_path(sys.argv[1]); "
        code += "print(json.dumps([str(found[name]) for name in sys.argv[2:]]))"
        names = ("BIND", "WORKERS", "THREADS", "CONNECTIONS")
        found = ("bind", "workers", "threads", "worker_connections")
        env = {name: value for name, value in os.environ.items() if not name.startswith("SSE_THREADED_")}
        printed = subprocess.run(
            [sys.executable, "-c", code, str(DEPLOY / "gunicorn.conf.py"), *found],
            env=env,
            check=True,
            capture_output=True,
            timeout=SECONDS,
        ).stdout
        self.assertEqual(json.loads(printed), [self.defaults[f"SSE_THREADED_{name}"] for name in names])

    def test_the_limits_of_one_file_suffice_for_the_other(self) -> None:
        connections = int(self.defaults["SSE_THREADED_CONNECTIONS"])
        unit = (DEPLOY / "sse-threaded.service").read_text(encoding="utf-8")
        nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        (files,) = map(int, re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE))
        self.assertGreaterEqual(files, connections + 200)
        (of_nginx,) = map(int, re.findall(r"worker_connections (\d+);", nginx))
        (its_files,) = map(int, re.findall(r"worker_rlimit_nofile (\d+);", nginx))
        self.assertGreater(its_files, of_nginx)
        (silence,) = map(int, re.findall(r"proxy_read_timeout (\d+)s;", nginx))
        self.assertGreater(silence, 2 * float(self.defaults["SSE_THREADED_HEARTBEAT"]))


if __name__ == "__main__":
    unittest.main()
