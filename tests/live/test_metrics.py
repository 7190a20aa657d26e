"""A scrape under two workers has exactly the numbers that clients have counted, also after a worker was killed."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

from sse_threaded.testing import request
from tests.live.exactness import SECONDS, ExactnessCase
from tests.support import wait_until

ONCE = True  # it says the same under every Python


class ParkedExactnessTest(ExactnessCase, unittest.TestCase):
    args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")
    kind = "parked"

    def test_wrapped_streams_and_polls(self) -> None:
        wrapped = [self.open("filter=1") for _ in range(6)]
        for reader in wrapped:
            reader.start()
        self.publish(7)
        self.all_have(wrapped, 7)
        poll = f"{self.server.url}/events?wait=0&lastEventId={{}}"
        first = wrapped[0].client.raw.split(b"id: ")[1].split()[0].decode()
        replies = [request("GET", poll.format(first), headers={"Accept": "application/json"}) for _ in range(5)]
        got = [len(reply.json()["events"]) for reply in replies]
        self.assertEqual(got, [7] * 5)
        wanted = {
            ("events_sent_total", "kind", "wrapped"): 42.0,
            ("sent_bytes_total", "kind", "wrapped"): float(sum(reader.size for reader in wrapped)),
            ("streams_open", "kind", "wrapped"): 6.0,
            ("streams_opened_total", "kind", "poll"): 5.0,
            ("streams_open", "kind", "poll"): 0.0,
            ("streams_ended_total", "kind", "poll", "reason", "answered"): 5.0,
            ("events_sent_total", "kind", "poll"): 35.0,
            ("sent_bytes_total", "kind", "poll"): float(sum(len(reply.body) for reply in replies)),
        }
        self.wait_for(lambda: wanted, "wrapped streams and polls")

    def test_a_reload_keeps_counters_and_a_restart_begins_anew(self) -> None:
        readers = self.open_on_both(6)
        self.publish(10)
        self.all_have(readers, 10)
        self.wait_for(lambda: self.counted(readers), "before the reload")
        workers = set(self.server.worker_pids())
        self.server.hup()
        wait_until(
            lambda: len(now := set(self.server.worker_pids())) == 2 and not now & workers,
            timeout=SECONDS,
            message="new workers",
        )
        for reader in readers:
            reader.join()
        self.wait_for(
            lambda: {
                **self.counted(readers),
                ("streams_ended_total", "kind", self.kind, "reason", "shutdown"): len(readers),
                ("streams_open", "kind", self.kind): 0,
            },
            "after the reload",
        )
        self.server.restart()
        self.assertEqual(self.value("events_published_total"), 0)
        files = os.listdir(Path(self.folder) / "metrics")
        running = {*map(str, self.server.worker_pids()), str(self.server.pid)}
        self.assertEqual({name.rpartition("_")[2].removesuffix(".db") for name in files} - running, set())


class PreloadedExactnessTest(ExactnessCase, unittest.TestCase):
    """The same with an app that the master has loaded, and without hooks: the worker has its own."""

    args = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "--preload")
    kind = "parked"

    test_slow_clients_and_refused_ones = None
    test_a_kill_in_the_middle = None


if __name__ == "__main__":
    unittest.main()
