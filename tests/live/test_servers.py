"""The same app, unchanged, under Werkzeug's server, gunicorn's workers, this package's, waitress and cheroot."""

import importlib.util
import json
import sys
import unittest
from functools import partial

from sse_threaded import Hub
from sse_threaded.board import create_app
from sse_threaded.testing import EventStreamClient, GunicornServer, LiveServer, request
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import free_port, missing, sqlite_url, temporary_directory, wait_until

try:
    import flask
except ImportError:
    flask = None

APP = "sse_threaded.board:create_app"
WAITRESS = ("-m", "waitress", "--threads=8", "--listen=127.0.0.1:PORT", "--call", APP)
CHEROOT = (
    "-c",
    """
from cheroot.wsgi import Server
from sse_threaded.board import create_app
Server(("127.0.0.1", PORT), create_app(), numthreads=8, max=8).start()
""",
)

EVENTS = "/boards/board-1/events"


class ServersTest(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        self.log_url = sqlite_url(self.directory)

    def exercise(self, url):
        """What a client sees, which must not depend on the server."""
        first = EventStreamClient(url + EVENTS)
        first.open()
        self.addCleanup(first.close)
        first.wait_for(lambda: b"id: " in first.raw)
        self.assertEqual(first.headers["Content-Type"], "text/event-stream; charset=utf-8")
        for number in range(3):
            reply = request("POST", url + "/boards/board-1/tasks", json={"title": f"Task {number}"})
            self.assertEqual(reply.status, 201)
        events = first.events(3)
        again = EventStreamClient(url + EVENTS, last_event_id=events[0].last_event_id)
        again.open()
        self.addCleanup(again.close)
        self.assertEqual(again.events(2), events[1:])
        self.assertEqual(request("HEAD", url + EVENTS).status, 200)
        poll = f"{EVENTS}?wait=5&lastEventId={events[1].last_event_id}"
        body = json.loads(request("GET", url + poll, headers={"Accept": "application/json"}).body)
        self.assertEqual(body["events"], [{"id": events[2].last_event_id, "data": events[2].data}])
        return bytes(first.raw)

    def test_what_a_client_gets_is_the_same_to_the_byte(self):
        seen = {}
        for name, serve in (
            ("werkzeug", self.with_werkzeug),
            ("gunicorn gthread", partial(self.with_gunicorn, "gthread")),
            ("gunicorn, parked", partial(self.with_gunicorn, "sse_threaded.worker.ThreadWorker")),
            ("gunicorn gevent", partial(self.with_gunicorn, "gevent")),
            ("waitress", partial(self.with_command, "waitress", WAITRESS)),
            ("cheroot", partial(self.with_command, "cheroot", CHEROOT)),
        ):
            with self.subTest(name):
                raw, epoch = serve()
                seen[name] = raw.replace(epoch.encode(), b"EPOCH")
        self.assertEqual(len(seen), 6)
        self.assertEqual(len(set(seen.values())), 1, seen)

    def with_werkzeug(self):
        app = create_app(sqlite_url(self.directory, "werkzeug.db"))
        self.addCleanup(app.hub.close)
        with LiveServer(app) as server:
            return self.exercise(server.url), app.hub.log.epoch

    def with_gunicorn(self, worker):
        env = {"SSE_THREADED_URL": sqlite_url(self.directory, f"{worker}.db")}
        args = ["-k", worker, "--threads", "8"]
        with GunicornServer("sse_threaded.board:create_app()", args=args, env=env, cwd=self.directory) as server:
            raw = self.exercise(server.url)
            return raw, self.epoch(server.url)

    def with_command(self, module, command):
        if importlib.util.find_spec(module) is None:
            missing(f"{module} (pip install {module})")
        directory = self.directory / module
        directory.mkdir()
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, *(part.replace("PORT", str(port)) for part in command)]
        with ServerProgram(module, command, directory, answers_http(url + "/healthz")):
            return self.exercise(url), self.epoch(url)

    @staticmethod
    def epoch(url):
        return json.loads(request("GET", url + "/healthz").body)["log"]["lastEventId"].partition("-")[0]


class FlaskTest(unittest.TestCase):
    def test_a_flask_view_returns_the_stream(self):
        if flask is None:
            missing("flask (pip install flask)")
        hub = Hub()
        self.addCleanup(hub.close)
        app = flask.Flask(__name__)

        @app.get("/events")
        def events():
            return hub.stream(flask.request, "news")

        @app.after_request
        def mark(response):
            response.headers["X-Seen"] = "yes"
            return response

        with LiveServer(app) as server, EventStreamClient(server.url + "/events") as client:
            self.assertEqual(client.headers["X-Seen"], "yes")
            client.wait_for(lambda: b"id: " in client.raw)
            hub.publish("news", {"n": 1})
            self.assertEqual(client.next_event().data, '{"n":1}')
            client.close()
            wait_until(lambda: hub.streams == 0)
            self.assertEqual(request("HEAD", server.url + "/events").status, 200)
            self.assertEqual(hub.streams, 0)
