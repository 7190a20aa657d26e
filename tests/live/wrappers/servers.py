"""The servers under which the wrappers are tried, each a process that is ended at the latest with the test.

``python -m tests.live.wrappers.servers werkzeug|waitress APP PORT`` is what runs the two that are not gunicorn.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import waitress
from werkzeug.serving import WSGIRequestHandler, make_server

from sse_threaded.testing import EventStreamClient
from sse_threaded.testing.gunicorn_server import NO_CONTROL_SOCKET
from sse_threaded.testing.response_reader import ResponseReader
from tests.support import ROOT, free_port, wait_until

WORKER = "sse_threaded.worker.ThreadWorker"
SERVERS = ("worker", "gthread", "tls", "werkzeug", "waitress")

_CONFIG = r"""
import sys
from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit

def post_request(worker, req, environ, resp):
    sys.stdout.write(f"POST_REQUEST {req.path}\n")
"""


_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


class Client(EventStreamClient):
    """Over TLS where the server wants that; it does not look whose certificate it is."""

    tls = False

    def _connect_to(self, *args: Any) -> socket.socket:
        connection = super()._connect_to(*args)
        if self.tls:
            self._socket = connection = _TLS.wrap_socket(connection)
        return connection

    def interpret(self, reader: ResponseReader) -> None:
        """Have the response read by ``reader``."""
        self._reader = reader


class Running(NamedTuple):
    """A server that runs.

    :ivar output: the text that it prints.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    output: IO[bytes]
    polling: threading.Lock
    polled: dict[str, tuple[float, dict[str, int]]]

    def client(self, target: str, **options: Any) -> Client:
        client = Client(f"http://127.0.0.1:{self.port}{target}", timeout=30, **options)
        client.tls = self.name == "tls"
        return client

    def get(self, target: str) -> str:
        """The body of an ordinary answer."""
        with self.client(target, headers={"Accept": "*/*"}) as client:
            client.wait_for_end()
            return client.raw.decode()

    def streams(self) -> dict[str, int]:
        """How many are open of each hub. Those that ask at the same time share an answer: over TLS it costs."""
        called = time.monotonic()
        with self.polling:
            asked, counts = self.polled.get("", (0.0, {}))
            if asked < called:  # an older answer may be of another test
                asked = time.monotonic()
                counts = json.loads(self.get("/streams"))
                self.polled[""] = (asked, counts)
            return counts

    def printed(self) -> str:
        self.output.flush()
        return Path(self.output.name).read_text()

    def worker(self) -> int:
        """The process that runs the app."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        return int(children[0]) if children else self.process.pid

    def threads(self) -> int:
        return int(self._status("Threads"))

    def kilobytes(self) -> int:
        return int(self._status("VmRSS"))

    def _status(self, name: str) -> str:
        lines = Path(f"/proc/{self.worker()}/status").read_text().splitlines()
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def make_certificate(directory: Path) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=directory, check=True, capture_output=True, timeout=60)


@contextmanager
def serve(
    name: str, directory: Path, *, app: str = "tests.live.wrappers.apps", threads: int = 160, **env: str
) -> Iterator[Running]:
    """Run a server until the block is left.

    :param name: one of :data:`SERVERS`.
    :param directory: for its files.
    :param app: the module whose ``app`` it serves.
    :param threads: how many it has, where that is to be said.
    :param env: further variables.
    """
    port = free_port()
    if name in ("werkzeug", "waitress"):
        command = [sys.executable, "-m", "tests.live.wrappers.servers", name, app, str(port)]
    else:
        config = directory / "gunicorn.conf.py"
        config.write_text(_CONFIG)
        kind = "gthread" if name == "gthread" else WORKER
        command = [sys.executable, "-m", "gunicorn", "-k", kind, "--threads", str(threads), "-c", str(config)]
        command += ["-b", f"127.0.0.1:{port}", *NO_CONTROL_SOCKET, "--access-logfile", "-", f"{app}:app"]
        command += ["--keep-alive", "60", "--graceful-timeout", "20", "--backlog", "2048"]
        if name == "tls":
            if not (directory / "key.pem").exists():
                make_certificate(directory)
            command += ["--certfile", str(directory / "cert.pem"), "--keyfile", str(directory / "key.pem")]
    url = f"sqlite:///{directory}/{name}.db"
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    inherited = {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "WRAPPERS_URL": url, **measured, **env}
    with open(directory / f"{name}.out", "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=inherited, stdout=output, stderr=output)
        running = Running(name, process, port, output, threading.Lock(), {})
        try:
            wait_until(lambda: _answers(running) or process.poll() is not None, timeout=60, message=name)
            if process.poll() is not None:
                raise AssertionError(f"{name} did not start:\n{running.printed()}")
            yield running
            process.terminate()
            process.wait(30)
        except BaseException:
            sys.stderr.write(f"--- output of {name}\n{running.printed()[-20_000:]}\n--- end of it\n")
            raise
        finally:
            process.kill()
            process.wait()


def _answers(running: Running) -> bool:
    try:
        return running.get("/ping") == "pong"
    except (OSError, AssertionError):
        return False


class _Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """No access lines."""


def main(name: str, module: str, port: str) -> None:
    app = importlib.import_module(module).app
    if name == "waitress":
        waitress.serve(app, host="127.0.0.1", port=int(port), threads=160, connection_limit=2000)
    else:
        make_server("127.0.0.1", int(port), app, threaded=True, request_handler=_Quiet).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
