"""Whether a server or a test client made a request: without a server nothing is warned of."""

import sys
import unittest

from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Request

from sse_threaded import Hub

WORDS = "one request at a time"


def environ(**more):
    return {**EnvironBuilder("/").get_environ(), **more}


class TestClientTest(unittest.TestCase):
    """A request that no server made is no reason to warn of the server."""

    def setUp(self):
        self.hub = Hub()
        self.addCleanup(self.hub.close)

    def app(self):
        @Request.application
        def app(web):
            return self.hub.stream(web, "a")

        return app

    def test_werkzeugs(self):
        with self.assertNoLogs("sse_threaded", "WARNING"):
            response = Client(self.app()).get("/")
            self.assertIn(b"retry: 5000", next(iter(response.response)))
            response.close()

    def test_werkzeugs_with_a_body_that_a_wrapper_gives(self):
        class Input:
            def read(self, size=-1):
                return b""

        with self.assertNoLogs("sse_threaded", "WARNING"):
            self.hub.stream({**environ(), "wsgi.input": Input()}, "a").close()

    def test_a_server_is_warned_of_after_a_test_client(self):
        with self.assertLogs("sse_threaded.hub", "WARNING") as logs:
            self.hub.stream(environ(), "a").close()
            self.hub.stream(environ(SERVER_SOFTWARE="a server", **{"wsgi.input": sys.stdin}), "a").close()
        self.assertEqual(len(logs.output), 1)
        self.assertIn(WORDS, logs.output[0])

    def test_a_server_that_has_read_the_body_before(self):
        # As bjoern does; it offers to send files.
        with self.assertLogs("sse_threaded.hub", "WARNING"):
            self.hub.stream(environ(**{"wsgi.file_wrapper": object}), "a").close()


if __name__ == "__main__":
    unittest.main()
