"""How an app serves live.js, and how its view answers it."""

from __future__ import annotations

import gzip
import hashlib
import unittest

from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, create_environ
from werkzeug.wrappers import Request, Response

from sse_threaded.browser import AskedChannels, LiveScript, asked_channels, script


class ScriptTest(unittest.TestCase):
    def setUp(self) -> None:
        app = DispatcherMiddleware(Response("the app"), {"/live": LiveScript()})
        self.client = Client(app)
        self.path = f"/live/{script().name}"

    def test_its_name_has_the_hash_of_its_content(self) -> None:
        self.assertEqual(script().name, f"live-{hashlib.sha256(script().data).hexdigest()[:16]}.js")
        self.assertIs(script(), script())

    def test_browsers_keep_it_for_ever(self) -> None:
        response = self.client.get(self.path)
        self.assertEqual((response.status_code, response.data), (200, script().data))
        self.assertEqual(response.headers["Cache-Control"], "public, max-age=31536000, immutable")
        self.assertEqual(response.headers["Content-Type"], "text/javascript; charset=utf-8")
        self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "*")
        self.assertEqual(response.headers["Vary"], "Accept-Encoding")

    def test_it_is_compressed_if_the_client_can_read_that(self) -> None:
        for accepted, compressed in (("gzip, deflate, br", True), ("gzip;q=0", False), ("br", False), ("", False)):
            with self.subTest(accepted):
                response = self.client.get(self.path, headers={"Accept-Encoding": accepted})
                self.assertEqual(response.headers.get("Content-Encoding"), "gzip" if compressed else None)
                data = gzip.decompress(response.data) if compressed else response.data
                self.assertEqual(data, script().data)
                self.assertEqual(response.headers["Content-Length"], str(len(response.data)))

    def test_head(self) -> None:
        response = self.client.head(self.path)
        self.assertEqual((response.status_code, response.data), (200, b""))
        self.assertEqual(response.headers["Content-Length"], str(len(script().data)))

    def test_other_names_and_methods(self) -> None:
        for path in ("/live/", "/live/live.js", "/live/live-0123456789abcdef.js"):
            with self.subTest(path):
                response = self.client.get(path)
                self.assertEqual(response.status_code, 404)
                assert response.json is not None
                self.assertIn(script().name, response.json["detail"])
                self.assertEqual(response.headers["Cache-Control"], "no-store")
        self.assertEqual(self.client.post(self.path).status_code, 405)


class AskedChannelsTest(unittest.TestCase):
    def ask(self, query: str, *allowed: str) -> AskedChannels:
        return asked_channels(create_environ("/events", query_string=query), lambda name: name in allowed)

    def test_a_client_that_may_read_all(self) -> None:
        names = ["a", "ä&=", "b c"]
        query = "channel=a&other=x&channel=%C3%A4%26%3D&channel=b+c&channel=a"
        self.assertEqual(self.ask(query, *names), (names, None))
        request = Request(create_environ("/events", query_string=query))
        self.assertEqual(asked_channels(request, lambda name: True), (names, None))

    def test_a_client_that_may_not_read_some(self) -> None:
        for query, refused in (
            ("channel=a&channel=b", ["b"]),
            ("channel=b&channel=c&channel=a", ["b", "c"]),
            ("channel=a&channel=sse_threaded:control", ["sse_threaded:control"]),
            (f"channel={'x' * 256}", ["x" * 256]),
        ):
            with self.subTest(query[:50]):
                allowed = ("a", "sse_threaded:control", "x" * 256)
                _, refusal = self.ask(query, *allowed)
                assert refusal is not None
                self.assertEqual((refusal.status_code, refusal.content_type), (403, "application/problem+json"))
                assert refusal.json is not None
                self.assertEqual(refusal.json["channels"], refused)
                self.assertEqual(refusal.json["status"], 403)
                self.assertEqual(refusal.headers["Cache-Control"], "no-store")

    def test_another_status(self) -> None:
        _, refusal = asked_channels(create_environ(query_string="channel=a"), lambda name: False, 404)
        assert refusal is not None
        self.assertEqual(refusal.status_code, 404)

    def test_no_channel(self) -> None:
        for query in ("", "channel=", "other=a"):
            with self.subTest(query):
                names, refusal = self.ask(query, "a")
                assert refusal is not None
                self.assertEqual((names, refusal.status_code), ([], 400))
                assert refusal.json is not None
                self.assertIn("?channel=", refusal.json["detail"])


if __name__ == "__main__":
    unittest.main()
