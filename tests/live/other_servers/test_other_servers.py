"""The Python client reads the streams of sse-starlette, better-sse and nchan: all events, each once, in order."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
import unittest
from pathlib import Path

from sse_threaded.client import EventSource
from sse_threaded.testing import request
from tests.browser.clients.catalogue import PACKAGES, require_packages
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import enter, free_port, missing, temporary_directory, wait_until

ONCE = True  # it says the same under every Python
NPM = True

HERE = Path(__file__).parent
_LAST = 60
_SECONDS = 60


class OtherServersTest(unittest.TestCase):
    def serve(self, name: str, command: list[str], directory: Path, port: int, **env: str) -> ServerProgram:
        answers = answers_http(f"http://127.0.0.1:{port}/healthz")
        server = ServerProgram(name, command, directory, answers, env={**os.environ, **env})
        return enter(self, server)

    def count(self, server: ServerProgram, port: int, data: str) -> None:
        """Read all numbers of a server that ends each connection after seven, and that is killed once.

        :param data: of an event, with ``N`` for its number.
        """
        opened: list[None] = []
        seen = []
        address = f"http://127.0.0.1:{port}/events/{_LAST}"
        with self.follow(address, opened) as source:
            for event in source:
                seen.append((event.event, event.data, event.last_event_id))
                if len(seen) == _LAST // 2:
                    server.kill()
                    server.start()
        expected = [("number", data.replace("N", str(number)), str(number)) for number in range(1, _LAST + 1)]
        self.assertEqual(seen, expected)
        self.assertGreater(len(opened), _LAST // 7)

    def test_sse_starlette(self) -> None:
        port = free_port()
        app = ("sse_starlette_app:app", "--app-dir", str(HERE), "--port", str(port), "--log-level", "warning")
        server = self.serve("uvicorn", [sys.executable, "-m", "uvicorn", *app], temporary_directory(self), port)
        self.count(server, port, "number\nN")

    def test_better_sse(self) -> None:
        require_packages()
        port = free_port()
        # Given as text, it imports from the working directory, which has the packages.
        source = (HERE / "better_sse.mjs").read_text(encoding="utf-8")
        command = ["node", "--input-type=module", "-e", source]
        directory = temporary_directory(self)
        (directory / "node_modules").symlink_to(PACKAGES / "node_modules")
        server = self.serve("better-sse", command, directory, port, PORT=str(port))
        self.count(server, port, r'[N,"of many\n"]')

    def test_nchan(self) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
        if program is None or not Path("/usr/lib/nginx/modules/ngx_nchan_module.so").exists():
            missing("nginx with nchan (apt-get install nginx libnginx-mod-nchan)")
        port = free_port()
        directory = temporary_directory(self)
        config = directory / "nginx.conf"
        text = (HERE / "nchan.conf").read_text(encoding="utf-8").replace("PORT", str(port))
        config.write_text(f"user root;\n{text}" if os.geteuid() == 0 else text, encoding="utf-8")
        command = [program, "-p", str(directory), "-e", "stderr", "-c", str(config)]
        self.serve("nchan", command, directory, port)
        opened: list[None] = []
        source = self.follow(f"http://127.0.0.1:{port}/events", opened)

        def publish() -> None:
            for number in range(1, _LAST + 1):
                answer = request("POST", f"http://127.0.0.1:{port}/news", body=b"number %d" % number)
                self.assertIn(answer.status, (201, 202), answer.body)
                if number in (_LAST // 3, 2 * _LAST // 3):
                    count = len(opened)
                    wait_until(lambda: len(opened) > count, timeout=_SECONDS, message="the next stream")  # noqa: B023

        publisher = threading.Thread(target=publish)
        publisher.start()
        self.addCleanup(publisher.join)
        with source:
            seen = [event.data for event in itertools.islice(source, _LAST)]
            publisher.join()
        self.assertEqual(seen, [f"number {number}" for number in range(1, _LAST + 1)])
        self.assertGreater(len(opened), 2)

    def follow(self, address: str, opened: list[None]) -> EventSource:
        """A client that appends to ``opened`` at each connection, and that ends after a minute in any case."""
        source = EventSource(address, retry=20, max_backoff=0.2, on_open=lambda: opened.append(None))
        deadline = threading.Timer(_SECONDS, source.close)
        deadline.start()
        self.addCleanup(deadline.cancel)
        return source


if __name__ == "__main__":
    unittest.main()
