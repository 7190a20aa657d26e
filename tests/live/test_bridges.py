"""What calls an app in place of a WSGI server: Tornado, and bridges to ASGI. All under the real gunicorn."""

from __future__ import annotations

import importlib.util
import json
import unittest

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import UNAVAILABLE, enter, missing, sqlite_url, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

APP = """
import os

from flask import Flask, request
from sse_threaded import Hub

app = Flask(__name__)
hub = Hub(os.environ["LOG_URL"], lease=2.0)

@app.get("/events")
def events():
    return hub.stream(request, "news")

@app.get("/health")
def health():
    return hub.health()
"""

ASGI = {
    "asgiref": "from asgiref.wsgi import WsgiToAsgi\nfrom app import app\nasgi = WsgiToAsgi(app)\n",
    "a2wsgi": "from a2wsgi import WSGIMiddleware\nfrom app import app\nasgi = WSGIMiddleware(app, workers=8)\n",
}


class BridgesTest(unittest.TestCase):
    def setUp(self) -> None:
        for module in ("a2wsgi", "asgiref", "flask", "tornado"):
            if importlib.util.find_spec(module) is None:
                missing(f"{module} (pip install {module})")
        self.directory = temporary_directory(self)
        (self.directory / "app.py").write_text(APP)
        for name, code in ASGI.items():
            (self.directory / f"with_{name}.py").write_text(code)

    def serve(self, worker: str, app: str) -> GunicornServer:
        self.log_url = sqlite_url(self.directory, f"{worker}-{app}.db")
        args = ["-k", worker]
        return enter(self, GunicornServer(app, args=args, env={"LOG_URL": self.log_url}, cwd=self.directory))

    def test_what_cannot_stream_is_told_to_come_back_and_says_once_what_to_use(self) -> None:
        for worker, app, words in (
            ("tornado", "app:app", "Tornado sends a response when all of it is there"),
            ("asgi", "with_asgiref:asgi", "WsgiToAsgi runs one request at a time"),
        ):
            with self.subTest(app):
                server = self.serve(worker, app)
                for _ in range(3):
                    with EventStreamClient(server.url + "/events") as client:
                        self.assertEqual(client.status, 200)
                        client.wait_for_end()
                        self.assertRegex(client.raw, UNAVAILABLE)
                self.assertEqual(request("GET", server.url + "/health").status, 200)
                wait_until(lambda server=server: "No streams" in server.output(), message="the line")
                self.assertEqual(server.output().count(words), 1)
                self.assertIn("use gunicorn -k sse_threaded.worker.ThreadWorker", server.output())
                self.assertNotIn("Traceback", server.output())

    def test_the_hooks_refuse_streams_under_workers_with_one_request_at_a_time(self) -> None:
        (self.directory / "gunicorn.conf.py").write_text(
            "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit\n"
        )
        for worker in ("sync", "tornado"):
            with self.subTest(worker):
                server = self.serve(worker, "app:app")
                with EventStreamClient(server.url + "/events") as client:
                    client.wait_for_end()
                    self.assertRegex(client.raw, UNAVAILABLE)
                self.assertEqual(request("GET", server.url + "/health").status, 200)
                self.assertIn("No streams", server.output())
                self.assertNotIn("Traceback", server.output())

    def test_a_bridge_that_hides_hang_ups_streams_and_says_once_what_to_set(self) -> None:
        server = self.serve("asgi", "with_a2wsgi:asgi")
        with EventStreamClient(server.url + "/events") as client, Hub(self.log_url) as other:
            client.wait_for_retry()
            other.publish("news", "here")
            self.assertEqual(client.next_event().data, "here")
        wait_until(lambda: self.streams(server) == 0, message="the end of its lease")
        self.assertEqual(server.output().count("a2wsgi does not tell that a client has gone"), 1)
        self.assertNotIn("Traceback", server.output())

    def streams(self, server: GunicornServer) -> int:
        count: int = json.loads(request("GET", server.url + "/health").body)["streams"]
        return count


if __name__ == "__main__":
    unittest.main()
