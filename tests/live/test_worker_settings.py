"""The promises of gunicorn's manual for ``gthread``: it and our worker get the same requests and signals.

docs/worker.md lists the settings, with the test of each.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sse_threaded.testing import GunicornServer, request
from tests.harness.certificate import certificate
from tests.harness.settings_requests import REQUESTS, get, post
from tests.live.test_gunicorn import is_running
from tests.live.test_worker_requests import read_all, read_body
from tests.support import ROOT, free_port, has_failed, wait_until

GTHREAD, OURS = WORKERS = ("gthread", "sse_threaded.worker.ThreadWorker")

WELL = get(b"/well")
LAST = get(b"/last", b"Connection: close")


class TlsServer(GunicornServer):
    """It is ready when it shakes hands. Otherwise it is as its base class."""

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as plain:
                ssl._create_unverified_context().wrap_socket(plain).close()
        except ssl.SSLError:
            return True  # it wants a certificate
        except OSError:
            return False
        return True


class SettingsTest(unittest.TestCase):
    def directory(self):
        directory = tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        return Path(directory.name)

    def serve(
        self, worker, config="", *args, app="tests.harness.settings_app:app", kind=GunicornServer, files=(), **env
    ):
        """Start a server in a directory of its own, which has these files."""
        directory = self.directory()
        for name in files:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(files[name], encoding="utf-8")
        (directory / "conf.py").write_text(config, encoding="utf-8")
        arguments = ["-k", worker, *("" if "--threads" in args else ("--threads", "4")), *args]
        env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", **env}
        server = kind(app, config=directory / "conf.py", args=arguments, env=env, cwd=directory)
        server.directory = directory
        server.__enter__()
        self.addCleanup(self.end, server)
        return server

    def end(self, server):
        if has_failed(self):
            sys.stderr.write(f"--- output of gunicorn\n{server.output()}\n--- end of it\n")
        server.kill()
        server.__exit__(None, None, None)

    def both(self, config="", *args, **env):
        """The two servers with these settings, gthread's first."""
        return [self.serve(worker, config, *args, **env) for worker in WORKERS]

    def each(self, servers, exercise):
        """Call a function with each of two servers, at the same time, as most of it is waiting.

        Returns the results.
        """
        with ThreadPoolExecutor(2) as threads:
            results = []
            for worker, future in [
                (worker, threads.submit(exercise, server)) for worker, server in zip(WORKERS, servers, strict=True)
            ]:
                with self.subTest(worker):
                    results.append(future.result())
        return results

    def connect(self, server, *pieces):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.addCleanup(connection.close)
        for piece in pieces:
            connection.sendall(piece)
        return connection

    def ask(self, server, data):
        """See :func:`exchange`. The connection is closed, as gthread's main thread would wait for that."""
        with self.connect(server) as connection:
            return exchange(connection, data)

    def counts(self, server):
        """The worker's process, requests at work, uploads at work, since its begin."""
        return [int(number) for number in request("GET", server.url + "/counts").body.split()]


def exchange(connection, data, **replaced):
    """All bytes that come for a request and one behind it, without what differs each time."""
    with contextlib.suppress(OSError):  # a refused request may end the connection early
        connection.sendall(data + LAST)
    received = re.sub(rb"Date: [^\r]*", b"Date: D", read_all(connection))
    for word, value in replaced.items():
        received = received.replace(b"'%d'" % value, b"'%b'" % word.encode())
    return received


# Requests that our worker answers otherwise, each with its own answer. A client cannot understand most of these
# answers of gthread's.
OTHERWISE = {
    "replaces": rb"^HTTP/1.1 500 Sorry\r\n.*\r\n5\r\nsorry\r\n0\r\n\r\n",  # gthread keeps the old length
    "never": rb"^HTTP/1.1 500 ",  # gthread sends "HTTP/1.1 None" where it is to close the connection
    "file disk,32000,, 1.1": rb"\r\n\r\n0\r\n\r\n(HTTP|$)",  # gthread ends the chunks of an empty file twice
    "text": rb"^HTTP/1.1 500 ",  # gthread has sent the head before it looks at the body
    # gthread lets the app answer first, and so do we with TLS. But then we only close the connection.
    "chunked bad ignored": rb"^HTTP/1.1 400 |\r\nignored$",
    "ignored longer": rb"\r\nConnection: close\r\n.*ignored$",  # gthread closes, too, and says keep-alive
    "ignored long": rb"ignoredHTTP/1.1 200 ",  # with TLS gthread closes the connection
}

LIMITS = """
limit_request_line = 300
limit_request_fields = 10
limit_request_field_size = 200
"""

RELAXED = """
limit_request_line = limit_request_field_size = 0
forwarded_allow_ips = "*"
forwarder_headers = "*"
header_map = "dangerous"
permit_obsolete_folding = strip_header_spaces = casefold_http_method = True
permit_unconventional_http_method = permit_unconventional_http_version = True
proxy_protocol = "auto"
sendfile = False
raw_env = ["SETTING=1"]
"""

STRICT = """
forwarded_allow_ips = "10.0.0.1"
forwarder_headers = "X-A"
header_map = "refuse"
secure_scheme_headers = {"X-A": "1"}
proxy_protocol = "v1"
keepalive = 0
workers = 2
"""

PREFIXED = """
raw_env = ["SCRIPT_NAME=/env"]
proxy_protocol = "v2"
proxy_allow_ips = "10.0.0.1"
"""


class AnswersTest(SettingsTest):
    """Requests of all kinds under several configurations."""

    def compare(self, config, *args, connect=None, names=REQUESTS, **kind):
        servers = self.both(config, *args, **kind)
        for name in names:
            with self.subTest(name):
                answers = []
                for server in servers:
                    with (connect or self.connect)(server) as connection:
                        port = connection.getsockname()[1] if connection.family == socket.AF_INET else 0
                        answers.append(exchange(connection, REQUESTS[name], PORT=server.port, CLIENT=port))
                gthreads, ours = answers
                if name in OTHERWISE and ours != gthreads:
                    self.assertRegex(ours, re.compile(OTHERWISE[name], re.DOTALL))
                else:
                    self.assertEqual(ours, gthreads)
        return servers

    def test_with_the_defaults_and_low_limits(self):
        for server in self.compare(LIMITS):
            self.assertIn("\nWRITTEN by the app\n", server.output())

    def test_with_all_that_may_be_permitted(self):
        self.compare(RELAXED)

    def test_with_no_trust_and_no_kept_connections(self):
        self.compare(STRICT)

    def test_with_a_script_name_and_a_proxy_that_is_refused(self):
        self.compare(PREFIXED, names=[name for name in REQUESTS if b"/environ" in REQUESTS[name]])

    def test_over_a_unix_socket(self):
        names = [name for name in REQUESTS if "environ" in name or "pro" in name or "host" in name]

        def connect(server):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            connection.connect(str(server.directory / "sock"))
            return connection

        self.compare('proxy_protocol = "auto"', "--bind", "unix:sock", connect=connect, names=names)

    def test_over_tls(self):
        chain, key = certificate(self.directory())
        client = ssl.create_default_context(cafile=str(chain))
        client.load_cert_chain(chain, key)

        def connect(server):
            plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            return client.wrap_socket(plain, server_hostname="localhost")

        config = (
            f"certfile, keyfile, ca_certs = {str(chain)!r}, {str(key)!r}, {str(chain)!r}\n"
            "cert_reqs = 2\n"
            "ciphers = 'ECDHE+AESGCM'\n"
            "def ssl_context(config, make):\n"
            "    context = make()\n"
            "    context.maximum_version = context.TLSv1_2 if hasattr(context, 'TLSv1_2') else 0x0303\n"
            "    return context\n"
        )
        names = [name for number, name in enumerate(REQUESTS) if not number % 6 or "expect" in name]
        for server in self.compare(config, connect=connect, names=names, kind=TlsServer):
            with connect(server) as connection:
                self.assertEqual(connection.version(), "TLSv1.2")
            anonymous = ssl.create_default_context(cafile=str(chain))
            plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            with plain, self.assertRaises(OSError):
                anonymous.wrap_socket(plain, server_hostname="localhost").recv(1)


ATOMS = """
import datetime
accesslog = "access.log"
access_log_format = (
    "%(h)s %(l)s %(u)s %(r)s %(s)s %(m)s %(U)s %(q)s %(H)s %(b)s %(B)s %(f)s %(a)s "
    "%({x-a}i)s %({content-length}o)s %({raw_uri}e)s | %(t)s %(T)s %(M)s %(D)s %(L)s %(p)s"
)
statsd_host = "127.0.0.1:PORT"
statsd_prefix = "shop"
dogstatsd_tags = "a:b"
"""

# The date, seconds, milliseconds, microseconds, seconds with a fraction, process.
MEASURED = re.compile(r"\[\d\d/\w+/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] (\d+) (\d+) (\d+) (\d+\.\d+) <(\d+)>")


class LogTest(SettingsTest):
    def receiver(self):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        return receiver

    def metrics(self, receiver):
        """Those about requests, up to that for the path that ends the trial, without durations."""
        found = collections.Counter()
        while "shop.gunicorn.request.status.299:1|c|@1.0|#a:b" not in found:
            text = receiver.recv(4096).decode()
            if "request" in text or "exception" in text:
                found[re.sub(r":[0-9.]+\|ms", ":0|ms", text)] += 1
        return found

    def test_access_lines_and_statsd(self):
        all_lines, all_metrics = [], []
        for worker in WORKERS:
            receiver = self.receiver()
            config = ATOMS.replace("PORT", str(receiver.getsockname()[1]))
            server = self.serve(worker, config, LEASE="0.3")
            requests = [
                *(
                    REQUESTS[name]
                    for name in REQUESTS
                    if name.partition(" ")[0] in ("post", "head", "file", "status")
                ),
                *(REQUESTS[name] for name in ("raises", "raises late", "folding", "te gzip", "1.0", "chunked")),
                get(b"/well?a=%22b", b"X-A: a b", b"Referer: r", b"User-Agent: u", b"Authorization: Basic YTpi"),
                get(b"/events", b"X-A: 1"),
                get(b"/status?299+last,x,1"),
            ]
            for data in requests:
                self.ask(server, data)
            all_metrics.append(self.metrics(receiver))
            lines = (server.directory / "access.log").read_text().splitlines()
            (process,) = server.worker_pids()
            for line in lines:
                seconds, millis, micros, fraction, pid = MEASURED.search(line).groups()
                self.assertEqual(int(pid), process)
                self.assertEqual(int(micros) // 1_000_000, int(seconds))
                self.assertEqual(int(micros) // 1000, int(millis))
                self.assertEqual(round(float(fraction) * 1e6), int(micros))
                if "/events" in line:
                    self.assertGreaterEqual(int(micros), 200_000)  # its whole life
            all_lines.append([line.partition(" | ")[0] for line in lines])
        self.assertIn("127.0.0.1 - a GET /well?a=%22b HTTP/1.1 200", all_lines[0][-6])
        self.assertEqual(all_lines[1], all_lines[0])
        self.assertEqual(all_metrics[1], all_metrics[0])


HOOKS = """
import os
accesslog = "access.log"

def tell(*words):
    with open("hooks", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def on_starting(server): tell("on_starting")
def on_reload(server): tell("on_reload")
def when_ready(server): tell("when_ready")
def pre_fork(server, worker): tell("pre_fork", worker.pid)
def post_fork(server, worker): tell("post_fork", worker.pid == os.getpid())
def post_worker_init(worker): tell("post_worker_init", worker.booted, worker.alive, callable(worker.wsgi))
def worker_int(worker): tell("worker_int", worker.alive)
def worker_abort(worker): tell("worker_abort", worker.alive)
def pre_request(worker, req): tell("pre_request", req.method, req.uri, req.path, len(req.headers), worker.nr)
def post_request(worker, req, environ, resp):
    tell("post_request", req.path, sorted(environ)[:1], resp and (resp.status, resp.sent, resp.headers_sent))
    raise ValueError("of the hook")
def child_exit(server, worker): tell("child_exit")
def worker_exit(server, worker): tell("worker_exit", worker.pid == os.getpid())
def nworkers_changed(server, new, old): tell("nworkers_changed", new, old)
def on_exit(server): tell("on_exit")
"""


class SignalsTest(SettingsTest):
    maxDiff = None

    def test_hooks_of_requests(self):
        names = ("post", "raises", "raises late", "never", "head", "expect body", "folding")

        def exercise(server):
            for name in names:
                self.ask(server, REQUESTS[name])
            hooks = server.directory / "hooks"
            wait_until(lambda: hooks.read_text().count("post_request") == 9, message="the hook of each request")
            return self.hooks(server)

        gthreads, ours = self.each(self.both(HOOKS), exercise)
        self.assertEqual(ours, gthreads)

    def test_signals_and_other_hooks(self):
        """The numbers are gthread's. It takes no part, as a worker of it now and then hangs after a SIGABRT."""
        server = self.serve(OURS, HOOKS)
        self.exercise(server)
        hooks = {words: number for words, number in self.hooks(server).items() if "_request" not in words}
        self.assertEqual(
            hooks,
            {
                "on_starting": 1,
                "when_ready": 1,
                "pre_fork [booting]": 5,
                "post_fork True": 5,
                "post_worker_init False True True": 5,
                "nworkers_changed 1 None": 1,
                "nworkers_changed 2 1": 1,
                "nworkers_changed 1 2": 1,
                "worker_int False": 1,
                "worker_abort False": 1,
                "on_reload": 1,
                "nworkers_changed 1 1": 1,
                "worker_exit True": 5,
                "child_exit": 5,
                "on_exit": 1,
            },
        )

    def exercise(self, server):
        """Each signal to the master or the worker."""
        first = set(server.worker_pids())

        def workers(number, *gone):
            def are_so():
                pids, output = set(server.worker_pids()), server.output()
                begun = all(f"Booting worker with pid: {pid}\n" in output for pid in pids)
                inits = self.hooks(server)["post_worker_init False True True"]
                are_ready = begun and inits == output.count("Booting worker")
                return are_ready and len(pids) == number and not pids & set(gone)

            wait_until(are_so, timeout=30, message="the workers")
            return server.worker_pids()

        (server.directory / "access.log").rename(server.directory / "old")
        os.kill(server.pid, signal.SIGUSR1)

        def is_logged_anew():
            request("GET", server.url + "/new")
            path = server.directory / "access.log"
            return path.exists() and "/new" in path.read_text()

        wait_until(is_logged_anew, message="a line in the new file")
        os.kill(*first, signal.SIGWINCH)
        os.kill(server.pid, signal.SIGTTIN)
        workers(2)
        os.kill(server.pid, signal.SIGTTOU)
        workers(1)
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGQUIT)
        (worker,) = workers(1, worker)
        os.kill(worker, signal.SIGABRT)
        (worker,) = workers(1, worker)
        server.hup()
        workers(1, worker)
        self.assertEqual(request("GET", server.url + "/well").body, b"well")
        server.terminate()
        self.assertEqual(server.wait(30), 0)

    def hooks(self, server):
        return collections.Counter((server.directory / "hooks").read_text().splitlines())


class LifeTest(SettingsTest):
    def test_an_app_that_ends_its_process_is_answered_alike(self):
        answers = []
        for server in self.both():
            for view in (b"/exit", b"/base", b"/base_late", b"/exit_now"):
                (worker,) = server.worker_pids()
                answers.append(self.ask(server, get(view)))
                wait_until(lambda pid=worker: not is_running(pid), message="its end")
                wait_until(lambda s=server: s.worker_pids(), message="the next worker")
                self.assertEqual(request("GET", server.url + "/well").body, b"well")
        self.assertEqual(answers[4:], answers[:4])

    def test_a_worker_without_the_interpreter_is_killed_after_timeout(self):
        servers = self.both("timeout = 1\n")
        held = [(server, server.worker_pids(), self.connect(server, get(b"/hold?60"))) for server in servers]
        for server, (worker,), _ in held:
            wait_until(lambda pid=worker: not is_running(pid), timeout=30, message="its end")
            self.assertIn("WORKER TIMEOUT", server.output())
            server.wait_until_ready()

    def test_max_requests_and_kept_connections(self):
        def exercise(server):
            (worker,) = server.worker_pids()
            kept = [self.connect(server, WELL) for _ in range(2)]
            for connection in kept:
                self.assertEqual(read_body(connection), b"well")
            # gthread waits for the end of the last connection, but keeps the others for two seconds only.
            last, answer = self.connect(server, WELL), b""
            while not answer.endswith(b"well"):
                answer += last.recv(4096)
            kept[0].sendall(WELL)  # the worker that ends answers it, and closes
            last.close()
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertIn(b"\r\nConnection: close\r\n", read_all(kept[0]))
            self.assertEqual(kept[1].recv(1), b"")
            wait_until(lambda pid=worker: not is_running(pid), message="its end")
            self.assertEqual(request("GET", server.url + "/well").body, b"well")

        self.each(self.both("max_requests = 3\nmax_requests_jitter = 0\nkeepalive = 30\n"), exercise)

    def test_keepalive(self):
        def exercise(server):
            connection = self.connect(server, WELL)
            self.assertEqual(read_body(connection), b"well")
            begun = time.monotonic()
            self.assertEqual(connection.recv(1), b"")
            self.assertGreaterEqual(time.monotonic() - begun, 0.9)

        self.each(self.both("keepalive = 1\n"), exercise)

    def test_fewer_connections_than_threads(self):
        def exercise(server):
            silent = [self.connect(server, WELL[:9]) for _ in range(2)]
            late = self.connect(server, WELL)
            late.settimeout(0.3)
            with self.assertRaises(TimeoutError):
                late.recv(1)
            silent[0].close()
            late.settimeout(30)
            self.assertEqual(read_body(late), b"well")

        self.each(self.both("worker_connections = 2\n"), exercise)

    def test_one_connection(self):
        def exercise(server):
            for _ in range(3):
                with self.connect(server, WELL) as connection:
                    self.assertTrue(read_all(connection).endswith(b"well"))

        self.each(self.both("worker_connections = 1\n"), exercise)

    def test_each_request_has_its_own_context_variables(self):
        server = self.serve(
            OURS, "", "--threads", "1"
        )  # under gthread a variable reaches the thread's next request
        with self.connect(server) as connection:
            for number in range(3):
                connection.sendall(get(b"/context?%d" % number))
                self.assertEqual(read_body(connection), b"unset")
                self.assertEqual(request("GET", server.url + f"/context?{number}").body, b"unset")

    def test_one_thread(self):
        def exercise(server):
            waiting = [self.connect(server, get(b"/sleep?0.1")) for _ in range(3)]
            for connection in waiting:
                self.assertEqual(read_body(connection), b"slept")
            self.assertEqual(request("GET", server.url + "/well").body, b"well")

        self.each(self.both("", "--threads", "1"), exercise)


RELOADING = """
reload = True
reload_engine = "poll"
reload_extra_files = ["extra"]
graceful_timeout = 20
"""


class EndTest(SettingsTest):
    def test_a_graceful_end(self):
        self.each(self.both("graceful_timeout = 30\nkeepalive = 60\n"), self.end_gracefully)

    def end_gracefully(self, server):
        kept = self.connect(server, WELL)
        self.assertEqual(read_body(kept), b"well")
        waiting = self.connect(server, get(b"/wait"))
        upload = self.connect(server, post(b"/upload", b"x" * 200_000)[:-100_000])
        wait_until(lambda: self.counts(server)[1:] == [1, 1], message="both at work")
        (worker,) = server.worker_pids()
        server.terminate()
        if OURS in server.output():  # under gthread a new connection waits until the end, and is reset
            wait_until(lambda: self.is_refused(server), message="no new connections")
        kept.sendall(get(b"/go"))
        for connection, body in ((kept, b"gone"), (waiting, b"went on")):
            self.assertTrue(read_all(connection).endswith(body))
        self.assertTrue(is_running(worker))
        upload.sendall(b"x" * 100_000)
        self.assertTrue(read_all(upload).endswith(b"200000"))
        self.assertEqual(server.wait(30), 0)

    def is_refused(self, server):
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=30).close()
        except OSError:
            return True
        return False

    def test_graceful_timeout(self):
        def exercise(server):
            waiting = self.connect(server, get(b"/wait"))
            wait_until(lambda: self.counts(server)[1] == 1, message="it is at work")
            server.terminate()
            self.assertEqual(read_all(waiting), b"")
            self.assertEqual(server.wait(30), 0)

        self.each(self.both("graceful_timeout = 1\n"), exercise)

    def reload(self, server, name, text, has_happened):
        """Change a file until that is noticed: a worker that begins may not know yet how old the file is."""
        path, changed = server.directory / name, 0.0

        def change():
            nonlocal changed
            if has_happened():
                return True
            if time.monotonic() > changed + 3:
                later = path.stat().st_mtime + 10
                path.write_text(text, encoding="utf-8")
                os.utime(path, (later, later))
                changed = time.monotonic()
            return False

        wait_until(change, timeout=30, message=text)

    def test_reload(self):
        servers = []
        for worker in WORKERS:
            server = self.serve(worker, RELOADING, app="shop:app", files={"shop.py": SHOP % "first", "extra": ""})
            servers.append(server)

        def exercise(server):
            def answers(words):
                with contextlib.suppress(OSError):
                    return words in request("GET", server.url + "/").body
                return False

            self.assertTrue(answers(b"first"))
            waiting = self.connect(server, get(b"/wait"))
            wait_until(lambda: request("GET", server.url + "/count").body == b"1", message="it is at work")
            workers = server.worker_pids()
            self.reload(server, "extra", "changed", lambda: set(server.worker_pids()) - set(workers))
            self.assertIn(b"second", read_all(waiting))
            self.reload(server, "shop.py", "no Python", lambda: answers(b"SyntaxError"))
            self.reload(server, "shop.py", SHOP % "repaired", lambda: answers(b"repaired"))

        self.each(servers, exercise)


# It answers a request that waits when the worker is to end.
SHOP = """
import time
at_work = []

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/wait":
        at_work.append(1)
        time.sleep(1.5)
        return [b"second"]
    if environ["PATH_INFO"] == "/count":
        return [b"%%d" %% len(at_work)]
    return [b"%s"]
"""


SEVERAL = """
workers = 2
preload_app = True
raw_env = ["SETTING=of the server"]
chdir = "there"
user = UID
umask = 0o77
worker_tmp_dir = "."
threads = 2
capture_output = True
errorlog = "error.log"
"""


class PlacesTest(SettingsTest):
    """Several addresses, several workers."""

    def test_several_binds_workers_and_a_preloaded_app(self):
        def exercise(server):
            port = int(
                re.search(r"http://\[::1\]:(\d+)", (server.directory / "there" / "error.log").read_text())[1]
            )
            answers = set()

            def ask():
                for family, address in (
                    (socket.AF_INET, ("127.0.0.1", server.port)),
                    (socket.AF_INET6, ("::1", port)),
                    (socket.AF_UNIX, str(server.directory / "there" / "sock")),
                ):
                    with socket.socket(family) as connection:
                        connection.settimeout(30)
                        connection.connect(address)
                        body = exchange(connection, get(b"/process"))
                        pid, *words = re.search(rb"<(.*)>", body)[1].split(b"|")
                        self.assertEqual(words, [b"of the server", str(server.directory / "there").encode()])
                        answers.add((family, int(pid)))
                return len(answers) >= 4 and {pid for _, pid in answers} == set(server.worker_pids())

            wait_until(ask, message="both workers, on all addresses")
            self.assertEqual((server.directory / "there" / "sock").stat().st_mode & 0o777, 0o700)

        binds = ("--bind", "[::1]:0", "--bind", "unix:sock")
        self.each(self.both(SEVERAL.replace("UID", str(os.getuid())), *binds, files={"there/x": ""}), exercise)

    def test_reuse_port(self):
        """Each worker has its own listener, so other programs may not hold the port."""
        for worker in WORKERS:
            port = free_port()
            command = [sys.executable, "-m", "gunicorn", "-k", worker, "--threads", "2", "-w", "2", "--reuse-port"]
            command += ["-b", f"127.0.0.1:{port}", "--no-control-socket", "tests.harness.settings_app:app"]
            server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
            workers = set()

            def ask(port=port, workers=workers):
                with contextlib.suppress(OSError):
                    body = request("GET", f"http://127.0.0.1:{port}/process").body
                    workers.add(body.partition(b"|")[0])
                return len(workers) == 2

            with self.subTest(worker):
                wait_until(ask, timeout=30, message="both workers")
                server.terminate()
                self.assertEqual(server.wait(30), 0)


def uwsgi(**variables):
    """A request in the protocol of uWSGI."""
    pairs = b"".join(
        struct.pack("<H", len(part)) + part
        for pair in variables.items()
        for part in (word.encode() for word in pair)
    )
    return struct.pack("<BHB", 0, len(pairs), 0) + pairs


class UwsgiServer(GunicornServer):
    """It is ready when it answers a request in the protocol of uWSGI. Otherwise it is as its base class."""

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(uwsgi(REQUEST_METHOD="GET", PATH_INFO="/", SERVER_PROTOCOL="HTTP/1.1"))
                return bool(connection.recv(1))
        except OSError:
            return False


class ProtocolsTest(SettingsTest):
    def test_uwsgi(self):
        common = {"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "HTTP_CONNECTION": "close"}
        requests = [
            uwsgi(REQUEST_METHOD="GET", PATH_INFO="/environ", QUERY_STRING="a=b", HTTP_X_A="1", **common),
            uwsgi(REQUEST_METHOD="POST", PATH_INFO="/input", QUERY_STRING="read", CONTENT_LENGTH="3", **common)
            + b"abc",
            uwsgi(REQUEST_METHOD="GET", PATH_INFO="/write", **common),
            uwsgi(REQUEST_METHOD="GET", PATH_INFO="/raises", **common),
            b"\xff\xff\xff\xff",
        ]

        def exercise(server):
            answers = []
            for data in requests:
                with self.connect(server, data) as connection:
                    port = connection.getsockname()[1]
                    answer = re.sub(rb"Date: [^\r]*", b"Date: D", read_all(connection))
                    answers.append(answer.replace(b"'%d'" % port, b"C").replace(b"'%d'" % server.port, b"S"))
            return answers

        gthreads, ours = self.each(self.both('protocol = "uwsgi"', kind=UwsgiServer), exercise)
        self.assertEqual(ours, gthreads)


IMPATIENT = """
from sse_threaded.server import deadlines
deadlines.SEND_SECONDS = 0.5
"""

# Bytes that no kernel takes for a client that reads nothing. Linux takes up to 4 MB, of a file some more, and the
# client's end 64 KB.
BIG, RECEIVE_BUFFER = 8_000_000, 64 * 1024


class SlowReaderTest(SettingsTest):
    """Of our worker only: under gthread such a client holds its thread until it closes."""

    def exercise(self, server, connect):
        for view in (b"/big", b"/big_file", b"/parts"):
            with self.subTest(view):
                stuck = connect(get(view + b"?%d" % BIG))
                stuck.recv(1)  # it is at work
                last = connect(LAST)  # the only thread is free again
                self.assertTrue(read_all(last).endswith(b"well"))
                with contextlib.suppress(ssl.SSLError):  # an end without a close_notify
                    self.assertLess(len(read_all(stuck)), BIG)
                reader = connect(get(view + b"?%d" % BIG, b"Connection: close"))
                self.assertEqual(len(read_all(reader).partition(b"\r\n\r\n")[2]), BIG)
        self.assertNotIn("Traceback", server.output())

    def test_one_that_reads_nothing_holds_no_thread_for_ever(self):
        server = self.serve(OURS, IMPATIENT, "--threads", "1")

        def connect(data):
            connection = self.connect(server)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            connection.sendall(data)
            return connection

        self.exercise(server, connect)

    def test_with_tls(self):
        chain, key = certificate(self.directory())
        config = IMPATIENT + f"certfile, keyfile = {str(chain)!r}, {str(key)!r}\n"
        server = self.serve(OURS, config, "--threads", "1", kind=TlsServer)
        context = ssl.create_default_context(cafile=str(chain))

        def connect(data):
            plain = self.connect(server)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            connection = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=True)
            self.addCleanup(connection.close)
            connection.sendall(data)
            return connection

        self.exercise(server, connect)
