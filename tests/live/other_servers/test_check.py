"""``sse-threaded check`` against servers of other projects: which findings their streams have, and no other."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path

from sse_threaded.check.findings import findings
from sse_threaded.check.probes import Check, Settings
from sse_threaded.check.target import Target
from sse_threaded.testing import GunicornServer
from tests.browser.clients.catalogue import PACKAGES, require_packages
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import enter, free_port, temporary_directory

ONCE = True  # it says the same under every Python
NPM = True

HERE = Path(__file__).parent

# Both streams count, end each connection after seven events, and have a reconnection time of 20 ms.
COUNTING = {"http1", "ambiguous-ids", "retry-value"}


class OtherServersTest(unittest.TestCase):
    def codes(self, url: str) -> set[str]:
        return {finding.code for finding in findings(Check(Target.of(url), Settings(wait=1.5)).run())}

    def serve(self, name: str, command: list[str], directory: Path, port: int) -> str:
        url = f"http://127.0.0.1:{port}"
        env = {**os.environ, "PORT": str(port)}
        enter(self, ServerProgram(name, command, directory, answers_http(f"{url}/healthz"), env=env))
        return f"{url}/events/60"

    def test_sse_starlette(self) -> None:
        port = free_port()
        app = ("sse_starlette_app:app", "--app-dir", str(HERE), "--port", str(port), "--log-level", "critical")
        url = self.serve("uvicorn", [sys.executable, "-m", "uvicorn", *app], temporary_directory(self), port)
        # This app reads any id as a number, so an id of another kind is an error.
        self.assertEqual(self.codes(url), {*COUNTING, "ended", "transformable", "unknown-id"})

    def test_better_sse(self) -> None:
        require_packages()
        port = free_port()
        directory = temporary_directory(self)
        (directory / "node_modules").symlink_to(PACKAGES / "node_modules")
        source = (HERE / "better_sse.mjs").read_text(encoding="utf-8")
        url = self.serve("better-sse", ["node", "--input-type=module", "-e", source], directory, port)
        self.assertEqual(self.codes(url), {*COUNTING, "no-farewell"})

    def test_a_naive_stream_under_gunicorn(self) -> None:
        args = ["-k", "gthread", "--threads", "8"]
        server = enter(self, GunicornServer("naive_app:app", args=args, cwd=HERE))
        found = self.codes(f"{server.url}/events")
        self.assertEqual(found, {"http1", "cacheable", "accel-buffering", "no-retry", "no-ids"})


if __name__ == "__main__":
    unittest.main()
