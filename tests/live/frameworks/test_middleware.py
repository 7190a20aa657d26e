"""Middleware between a stream and gunicorn: docs/frameworks.md says what becomes of the stream."""

from __future__ import annotations

import json
import unittest
from typing import ClassVar

from sse_threaded.testing import EventStreamClient, request
from tests.live.frameworks.case import Served, cookie_of, serve

ONCE = True  # the middleware is the same under every Python

FLASK = '@app.post("/orders")\ndef order() -> tuple'
DJANGO = "from django.http import HttpRequest, HttpResponse\nfrom django.urls"
_OPENINGS = 200


class MiddlewareCase(unittest.TestCase):
    """Runs ``check`` with both workers. A subclass says which block, and what is around it."""

    sign: ClassVar[str]
    before: ClassVar[str] = ""
    after: ClassVar[str] = ""
    path: ClassVar[str] = "/orders/events"
    is_parked: ClassVar[bool] = True
    # Whether each thread may keep the objects of its last request.
    threads_keep: ClassVar[bool] = False

    def start(self, worker: str) -> Served:
        return serve(self, self.sign, worker, before=self.before, after=self.after)

    def exercise(self, worker: str, **headers: str) -> Served:
        """An event arrives, alone and at once; streams come and go; nothing is left. Returns the server."""
        served = self.start(worker)
        client = served.connect(self.path, headers=headers)
        self.check_head(client)
        for number in range(3):
            served.hub.publish("orders", {"number": number})
            self.assertEqual(json.loads(client.next_event().data), {"number": number})
        if worker == "ThreadWorker":
            objects = served.whole_state()["objects"]
            self.assertEqual("SocketSubscriber" in objects, self.is_parked, objects)
            self.assertEqual("WrappedSubscriber" in objects, not self.is_parked, objects)
        self.check_open(served)
        client.close()
        served.wait_for_streams(0)
        self.check_closed(served)
        served.wait_until_nothing_is_left(self.threads_keep)
        before = served.whole_state()
        served.come_and_go(self.path, _OPENINGS, headers=headers)
        served.wait_until_nothing_is_left(self.threads_keep)
        after = served.whole_state()
        if worker == "ThreadWorker":
            self.assertLessEqual(after["threads"], before["threads"] + 2)
        self.assertLessEqual(len(after["files"]), len(before["files"]) + 20, (before, after))
        output = served.server.output()
        for words in ("Traceback", "keeps its thread", "Exception ignored"):
            self.assertNotIn(words, output)
        return served

    def check_head(self, client: EventStreamClient) -> None:
        self.assertEqual(client.status, 200)
        self.assertNotIn("Content-Encoding", client.headers)
        self.assertEqual(client.headers["Content-Type"], "text/event-stream; charset=utf-8")

    def check_open(self, served: Served) -> None:
        """While the stream is open."""

    def check_closed(self, served: Served) -> None:
        """After it has ended."""


class FlaskLoginTest(MiddlewareCase):
    sign = "from flask_login"

    def check_logout(self, worker: str) -> None:
        served = self.start(worker)
        cookies = [cookie_of(served.post("/login", f"name={name}")) for name in ("ann", "bob")]
        ann, bob = (served.connect(self.path, headers=cookie) for cookie in cookies)
        served.hub.publish("user-ann", "hers")
        served.hub.publish("orders", "of all")
        self.assertEqual([event.data for event in ann.events(2)], ["hers", "of all"])
        self.assertEqual(bob.next_event().data, "of all")
        reply = served.post("/logout", **cookies[0])
        self.assertEqual(reply.status, 200)
        served.hub.publish("user-ann", "late")
        served.hub.publish("orders", "later")
        ann.wait_for_end()
        self.assertEqual(ann.pending(), [])
        self.assertEqual(bob.next_event().data, "later")
        again = served.connect(self.path, headers=cookie_of(reply), last_event_id=ann.last_event_id)
        self.assertEqual(again.status, 401)
        self.assertEqual(request("GET", f"{served.url}{self.path}").status, 401)
        bob.close()
        served.wait_for_streams(0)
        served.come_and_go(self.path, _OPENINGS, headers=cookies[1])
        served.wait_until_nothing_is_left()

    def test_under_gthread(self) -> None:
        self.check_logout("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check_logout("ThreadWorker")


class FlaskCompressTest(MiddlewareCase):
    sign = FLASK
    after = "from flask_compress import Compress\nCompress(app)\n"

    def test_under_gthread(self) -> None:
        self.exercise("gthread", **{"Accept-Encoding": "gzip, deflate, br, zstd"})

    def test_under_this_packages_worker(self) -> None:
        self.exercise("ThreadWorker", **{"Accept-Encoding": "gzip, deflate, br, zstd"})


class FlaskCompressOfEventsTest(FlaskCompressTest):
    """Where the app compresses events, the view removes the field, as the page says."""

    after = f"""
app.config["COMPRESS_MIMETYPES"] = ["text/event-stream"]
{FlaskCompressTest.after}

@app.before_request
def leave_plain():
    if request.path.endswith("/events"):
        request.environ.pop("HTTP_ACCEPT_ENCODING", None)
"""


class FlaskCorsTest(MiddlewareCase):
    sign = "from flask_cors"

    def check_head(self, client: EventStreamClient) -> None:
        super().check_head(client)
        self.assertEqual(client.headers.getlist("Access-Control-Allow-Origin"), ["https://app.example"])
        self.assertEqual(client.headers["Access-Control-Allow-Credentials"], "true")

    def check_open(self, served: Served) -> None:
        resumed = served.connect(
            self.path, headers={"Origin": "https://app.example"}, last_event_id=served.hub.log.event_id(1)
        )
        self.check_head(resumed)
        self.assertEqual([json.loads(event.data)["number"] for event in resumed.events(2)], [1, 2])
        resumed.close()
        other = served.connect(self.path, headers={"Origin": "https://other.example"})
        self.assertNotIn("Access-Control-Allow-Origin", other.headers)
        other.close()

    def test_under_gthread(self) -> None:
        self.exercise("gthread", Origin="https://app.example")

    def test_under_this_packages_worker(self) -> None:
        self.exercise("ThreadWorker", Origin="https://app.example")


class WhiteNoiseTest(MiddlewareCase):
    sign = FLASK
    after = """
from whitenoise import WhiteNoise
static = Path(__file__).with_name("static")
static.mkdir()
static.joinpath("page.html").write_text("<p>page</p>")
app.wsgi_app = WhiteNoise(app.wsgi_app, root=static)
"""

    def check_open(self, served: Served) -> None:
        self.assertEqual(request("GET", f"{served.url}/page.html").body, b"<p>page</p>")

    def test_under_gthread(self) -> None:
        self.exercise("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.exercise("ThreadWorker")


class DjangoMiddlewareTest(MiddlewareCase):
    sign = DJANGO
    after = """
settings.MIDDLEWARE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]
app.load_middleware()
"""
    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "gzip", "If-None-Match": "*", "If-Modified-Since": "x"}

    def check_head(self, client: EventStreamClient) -> None:
        super().check_head(client)
        self.assertNotIn("ETag", client.headers)
        self.assertNotIn("Content-Length", client.headers)

    def test_under_gthread(self) -> None:
        self.exercise("gthread", **self.headers)

    def test_under_this_packages_worker(self) -> None:
        self.exercise("ThreadWorker", **self.headers)


if __name__ == "__main__":
    unittest.main()
