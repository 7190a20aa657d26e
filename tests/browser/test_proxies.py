"""A compressing development proxy in front of an app: the real express, compression and http-proxy-middleware.

Vite's (7.3.8) and Next's (16.4.6) proxies were tried by hand; docs/servers.md has what they do.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import unittest
from pathlib import Path

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import CHECKOUT, enter, missing, sqlite_url, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

# What npm has installed; it is the directory node_modules itself.
PACKAGES = Path(os.environ.get("SSE_TESTS_NPM") or CHECKOUT / ".test-npm" / "node_modules")

APP = """
import os

from flask import Flask, request
from sse_threaded import Hub

app = Flask(__name__)
hub = Hub(os.environ["LOG_URL"])

@app.get("/events")
def events():
    return hub.stream(request, "news")

@app.get("/transformable")
def transformable():
    response = hub.stream(request, "news")
    response.headers["Cache-Control"] = "no-cache"
    return response

@app.post("/events")
def publish():
    return hub.publish("news", request.get_data(as_text=True)), 201

@app.get("/health")
def health():
    return hub.health()
"""

BROWSERS = {"Accept-Encoding": "gzip, deflate, br"}


class CompressingProxyTest(unittest.TestCase):
    def setUp(self) -> None:
        node = shutil.which("node")
        if node is None:
            missing("node (apt-get install nodejs)")
        for package in ("express", "compression", "http-proxy-middleware"):
            if not (PACKAGES / package).is_dir():
                missing(f"{package} in {PACKAGES} (npm install; or SSE_TESTS_NPM, the path of a node_modules)")
        directory = temporary_directory(self)
        (directory / "app.py").write_text(APP)
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "4"]
        env = {"LOG_URL": sqlite_url(directory)}
        self.server = enter(self, GunicornServer("app:app", args=args, env=env, cwd=directory))
        command = [node, str(Path(__file__).with_name("compressing_proxy.js")), str(PACKAGES), self.server.url]
        proxy = enter(self, subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self.addCleanup(proxy.kill)
        assert proxy.stdout is not None
        readable, _, _ = select.select([proxy.stdout], [], [], 30)
        self.assertTrue(readable, "the proxy does not start")
        self.port = int(proxy.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def publish(self, data: str) -> None:
        self.assertEqual(request("POST", self.server.url + "/events", body=data.encode()).status, 201)

    def streams(self) -> int:
        count: int = json.loads(request("GET", self.server.url + "/health").body)["streams"]
        return count

    def test_an_event_comes_at_once_and_a_hang_up_lets_go(self) -> None:
        with EventStreamClient(self.url + "/events", headers=BROWSERS) as client:
            client.wait_for_retry()
            self.assertNotIn("Content-Encoding", client.headers)
            for number in range(3):
                self.publish(str(number))
                self.assertEqual(client.next_event().data, str(number))
        wait_until(lambda: self.streams() == 0, message="no stream")

    def test_without_no_transform_events_are_held_back(self) -> None:
        """What the other test would see if the header were lost."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 30) as held,
            EventStreamClient(self.url + "/events", headers=BROWSERS) as client,
        ):
            client.wait_for_retry()
            head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **BROWSERS}.items())
            held.sendall(f"GET /transformable HTTP/1.1\r\n{head}\r\n".encode())
            wait_until(lambda: self.streams() == 2, message="both streams")
            published = 0

            def comes_out() -> bool:
                nonlocal published
                published += 1
                self.publish(secrets.token_hex(2000))
                client.next_event()
                return bool(select.select([held], [], [], 0)[0])

            wait_until(comes_out, timeout=60, message="what the proxy holds back")
            self.assertGreater(published, 3)


if __name__ == "__main__":
    unittest.main()
