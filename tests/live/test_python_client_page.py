"""The code of docs/python-client.md runs as it stands there; only the addresses are those of the test."""

from __future__ import annotations

import builtins
import contextlib
import io
import unittest
from unittest import mock

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import LiveServer
from tests.quality.test_examples import blocks, made_whole
from tests.support import enter, free_port, temporary_directory, wait_until

ADDRESS = "http://localhost:8000"


class PageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.hub = enter(self, Hub(retry=10))
        self.seen: list[Request] = []

        @Request.application
        def app(web: Request) -> Response:
            self.seen.append(web)
            return self.hub.stream(web, "orders", from_start=True)

        self.server = enter(self, LiveServer(app))

    def run_block(self, sign: str, url: str | None = None, **replaced: str) -> str:
        """Run the block with this text in it; return what it prints."""
        (block,) = [each for each in blocks() if each.path.name == "python-client.md" and sign in each.text]
        code = made_whole(block).replace(ADDRESS, url or self.server.url)
        for old, new in replaced.items():
            self.assertIn(old, code)
            code = code.replace(old, new)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, {"__name__": "block"})
        return output.getvalue()

    def publish_all(self) -> list[str]:
        return [self.hub.publish("orders", "one"), self.hub.publish("orders", "two"), self.hub.finish("orders")]

    def test_the_loop(self) -> None:
        first, second, last = self.publish_all()
        text = f"{first} message one\n{second} message two\n{last} stream-finished {{}}\n"
        self.assertEqual(self.run_block("load the state again"), text)

    def test_errors(self) -> None:
        with mock.patch("sse_threaded.client.reconnection._FIRST_BACKOFF", 0.0):
            text = self.run_block(
                "max_failures=20",
                f"http://127.0.0.1:{free_port()}",
                **{"EventSource(": "EventSource(retry=1, url="},
            )
        self.assertRegex(text, r"\Agave up: .*ConnectionRefusedError.* in a row: 20\n\Z")
        with mock.patch.object(self.hub, "stream", lambda *_, **__: Response(status=403)):
            self.assertRegex(self.run_block("max_failures=20"), r"\Ano stream: 403 the answer was 403 FORBIDDEN")

    def test_going_on_after_a_restart(self) -> None:
        folder = temporary_directory(self)
        place = {"/var/lib/shop": str(folder)}
        self.publish_all()
        self.assertEqual(self.run_block("/var/lib/shop", **place), "one\ntwo\n{}\n")
        self.assertEqual((folder / "last_event_id").read_text(), self.seen[-1].headers["Last-Event-ID"])
        self.assertEqual(self.run_block("/var/lib/shop", **place), "")

    def test_another_thread_closes(self) -> None:
        self.hub.publish("orders", "one")

        def enter_pressed(_: str) -> str:
            wait_until(lambda: self.hub.streams == 1, message="the stream")
            return ""

        with mock.patch.object(builtins, "input", enter_pressed):
            self.run_block("thread.join()")
        wait_until(lambda: self.hub.streams == 0, message="the end of the stream")

    def test_an_authentication_object(self) -> None:
        self.publish_all()
        self.assertEqual(self.run_block("class Token"), "one\n")
        self.assertRegex(self.seen[0].headers["Authorization"], r"\ABearer \d+\Z")


if __name__ == "__main__":
    unittest.main()
