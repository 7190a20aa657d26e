"""The code of docs/metrics.md and docs/logging.md, as it stands there, and the board's own metrics."""

from __future__ import annotations

import io
import json
import logging
import re
import unittest
from pathlib import Path
from typing import Any

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.imports import SOURCES
from tests.quality.test_examples import blocks
from tests.support import CHECKOUT, enter, temporary_directory, wait_until
from tests.unit.test_metrics import rows, value_in

ONCE = True  # it says the same under every Python


def page_block(page: str, sign: str) -> str:
    (found,) = [each.text for each in blocks() if each.path.name == page and sign in each.text]
    return found


class MetricsPageTest(unittest.TestCase):
    def serve(self, *args: str) -> tuple[GunicornServer, Path]:
        folder = temporary_directory(self)
        (folder / "app.py").write_text(page_block("metrics.md", "Metrics()"), encoding="utf-8")
        settings = page_block("metrics.md", "raw_env").replace("/dev/shm/shop-metrics", str(folder / "metrics"))
        (folder / "gunicorn.conf.py").write_text(settings, encoding="utf-8")
        return enter(self, GunicornServer("app:app", args=args, cwd=folder, timeout=60)), folder

    def test_the_app_and_the_settings(self) -> None:
        for args in ((), ("--preload",)):
            with self.subTest(args):
                server, folder = self.serve(*args)
                url = f"{server.url}/orders"
                with EventStreamClient(f"{url}/events") as client:
                    client.wait_for_retry()
                    for number in range(6):
                        self.assertEqual(request("POST", url, json={"item": number}).status, 201)
                    client.events(6)
                    wait_until(lambda server=server: self.has_six(server), message="the sums of both workers")
                self.assertTrue(list((folder / "metrics").glob("counter_*.db")))
                self.assertNotIn("Traceback", server.output())

    def has_six(self, server: GunicornServer) -> bool:
        text = request("GET", f"{server.url}/metrics").body.decode()
        names = [("events_published_total", {}), ("events_sent_total", {"kind": "parked"})]
        return [value_in(text, name, **labels) for name, labels in names] == [6, 6]

    def test_without_the_directory_it_says_what_to_do(self) -> None:
        folder = temporary_directory(self)
        (folder / "app.py").write_text(page_block("metrics.md", "Metrics()"), encoding="utf-8")
        args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "-w", "2")
        server = enter(self, GunicornServer("app:app", args=args, cwd=folder))
        reply = request("GET", f"{server.url}/metrics")
        self.assertEqual(reply.status, 500)
        self.assertIn(b"PROMETHEUS_MULTIPROC_DIR", reply.body)

    def test_the_observer(self) -> None:
        text = page_block("metrics.md", "class SlowClients")
        folder = temporary_directory(self)
        names: dict[str, Any] = {"__file__": str(folder / "app.py"), "__name__": "app"}
        exec(text, names)
        hub = enter(self, names["hub"])
        from sse_threaded.fanout.stream_facts import note_end  # noqa: PLC0415
        from sse_threaded.fanout.stream_state import EndReason  # noqa: PLC0415
        from sse_threaded.fanout.thread_subscriber import ThreadSubscriber  # noqa: PLC0415

        subscriber = ThreadSubscriber(("a",), 9)
        subscriber.address, subscriber.end_reason = "10.0.0.1", EndReason.SLOW
        for _ in range(2):
            note_end(subscriber, hub._observers)
        self.assertEqual(names["slow_clients"].counts, {"10.0.0.1": 2})


class BoardTest(unittest.TestCase):
    def test_its_metrics_have_the_sums_and_the_directory_goes_with_it(self) -> None:
        folder = temporary_directory(self)
        env = {"SSE_THREADED_METRICS": "1", "TMPDIR": str(folder)}
        env["SSE_THREADED_URL"] = f"sqlite:///{folder}/board.db"
        server = GunicornServer(config=CHECKOUT / "deploy" / "gunicorn.conf.py", env=env, timeout=60)
        with server:
            self.assertEqual(len(list(folder.glob("sse_threaded-metrics-*"))), 1)
            clients = [EventStreamClient(f"{server.url}/boards/board-1/events") for _ in range(8)]
            for client in clients:
                enter(self, client).wait_for_retry()
            text = ""

            def all_are_open() -> bool:
                nonlocal text
                text = request("GET", f"{server.url}/metrics").body.decode()
                return value_in(text, "streams_open", kind="parked") == 8

            wait_until(all_are_open, message="eight streams")
            self.assertGreater(value_in(text, "streams_limit"), 8)
            server.terminate()
            server.wait()
        self.assertEqual(list(folder.glob("sse_threaded-metrics-*")), [])


class LoggingPageTest(unittest.TestCase):
    def test_the_formatter_shows_the_fields(self) -> None:
        logger = logging.getLogger("sse_threaded")
        level, handlers = logger.level, list(logger.handlers)
        self.addCleanup(logger.setLevel, level)
        self.addCleanup(setattr, logger, "handlers", handlers)
        names: dict[str, Any] = {}
        exec(page_block("logging.md", "class JSONLines"), names)
        output = names["handler"].stream = io.StringIO()
        from sse_threaded import Hub  # noqa: PLC0415

        with Hub() as hub:
            body = hub.stream({"REQUEST_METHOD": "GET", "REMOTE_ADDR": "10.0.0.1"}, "a", user=7).response
            next(body)
            hub.publish("a", "secret data")
            next(body)
            hub.disconnect(user=7)
            list(body)
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        (line,) = [line for line in lines if line["event"] == "stream_ended"]
        self.assertEqual((line["user"], line["address"], line["reason"]), ("7", "10.0.0.1", "disconnected"))
        self.assertEqual((line["events"], line["channels"]), (1, ["a"]))
        self.assertNotIn("secret", output.getvalue())
        try:
            raise RuntimeError("a defect")
        except RuntimeError:
            logger.exception("failed", extra={"event": "pump_failed"})
        self.assertIn("RuntimeError: a defect", json.loads(output.getvalue().splitlines()[-1])["traceback"])

    def test_the_table_has_each_line_with_its_fields(self) -> None:
        listed = {row[0]: row[2] for row in rows(CHECKOUT / "docs" / "logging.md", 3) if row[0] != "event"}
        named = set()
        for path in SOURCES.values():
            named |= set(re.findall(r'"event": "([a-z0-9_]+)"', path.read_text(encoding="utf-8")))
        named -= {"name"}  # of an event in a text
        self.assertEqual(set(listed), named)


if __name__ == "__main__":
    unittest.main()
