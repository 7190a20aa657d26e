"""The app of docs/answers.md, as it stands there: an answer is complete, whatever happens to page and server."""

from __future__ import annotations

import os
import signal
import unittest
from collections.abc import Callable

from sse_threaded.testing import EventStreamClient, GunicornServer, ResumingClient, request
from tests.quality.test_examples import blocks
from tests.support import enter, temporary_directory

WORDS = [f"word-{number}" for number in range(60)]
TEXT = "".join(f"{word} " for word in WORDS)


class AnswersTest(unittest.TestCase):
    args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        (code,) = [each.text for each in blocks() if each.path.name == "answers.md"]
        (self.folder / "answers.py").write_text(code, encoding="utf-8")

    def serve(self, workers: int = 2) -> GunicornServer:
        args = [*self.args, "-w", str(workers)]
        return enter(self, GunicornServer("answers:app", args=args, cwd=self.folder))

    def ask(self, server: GunicornServer) -> str:
        answer = request("POST", f"{server.url}/answers", json={"question": " ".join(WORDS)})
        self.assertEqual(answer.status, 201)
        return f"{server.url}/answers/{answer.json()['id']}/events"

    def read(self, url: str) -> str:
        """The whole text, as a page that is loaded now gets it."""
        with EventStreamClient(url, timeout=60) as client:
            text = ""
            while (event := client.next_event()).event != "stream-finished":
                text += event.data
            client.wait_for_end()
            with EventStreamClient(url, last_event_id=client.last_event_id) as again:
                self.assertEqual(again.status, 204)
        return text

    def test_a_page_that_is_loaded_again_in_the_middle_gets_all(self) -> None:
        url = self.ask(self.serve())
        with EventStreamClient(url) as client:
            self.assertEqual("".join(event.data for event in client.events(3)), "word-0 word-1 word-2 ")
        self.assertEqual([self.read(url) for _ in range(2)], [TEXT] * 2)

    def outlive(self, strike: Callable[[GunicornServer], object]) -> None:
        """Whatever happens in the middle, twice, a page that stays open and one that comes later have all."""
        server = self.serve()
        url = self.ask(server)
        with ResumingClient(url, retry_factor=0.05, timeout=90) as page:
            for number in (1, 2):
                page.wait_for_events(10 * number)
                strike(server)
            events = page.wait_for_events(len(WORDS) + 1)
            self.assertEqual("".join(event.data for event in events), TEXT)
            self.assertEqual(events[-1].event, "stream-finished")
        self.assertEqual(self.read(url), TEXT)

    def test_the_workers_are_killed(self) -> None:
        def strike(server: GunicornServer) -> None:
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)

        self.outlive(strike)

    def test_the_whole_server_is_killed_and_started_again(self) -> None:
        def strike(server: GunicornServer) -> None:
            server.kill()
            server.restart()

        self.outlive(strike)

    def test_it_ends_by_sigterm_and_starts_again(self) -> None:
        def strike(server: GunicornServer) -> None:
            server.terminate()
            server.wait(30)
            server.restart()

        self.outlive(strike)


class OnThreadsTest(AnswersTest):
    args = ("-k", "gthread", "--threads", "16", "-c", "python:sse_threaded.gunicorn_hooks")


if __name__ == "__main__":
    unittest.main()
