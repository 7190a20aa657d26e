"""A hub under gunicorn's gevent workers with a log in PostgreSQL: a greenlet that waits for it stops no other."""

from __future__ import annotations

import json
import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded import Hub
from sse_threaded.testing import request
from tests.harness.postgres_server import PostgresServer
from tests.live.test_gevent import GeventCase, setUpModule
from tests.postgres.patience import be_patient
from tests.postgres.test_listener import LISTENERS
from tests.support import enter, wait_until

__all__ = ["setUpModule"]

ONCE = True  # it says the same under every Python


class PostgresGeventCase(GeventCase):
    def setUp(self) -> None:
        super().setUp()
        be_patient(self)
        self.postgres = enter(self, PostgresServer())
        self.log_url = self.postgres.url()


class GeventTest(PostgresGeventCase):
    def test_a_log_in_postgresql(self) -> None:
        for args in ((), ("--preload",)):
            with self.subTest(args):
                self.log_url = self.postgres.url(self.postgres.make_database())
                server = self.serve(*args)
                clients = [self.open(server) for _ in range(20)]
                with ThreadPoolExecutor(5) as pool:
                    for post in [pool.submit(self.publish, server, "here") for _ in range(5)]:
                        post.result(20)
                with Hub(self.log_url) as other:
                    other.publish("news", "elsewhere")
                for client in clients:
                    data = [event.data for event in client.events(6)]
                    self.assertEqual(data, ["here"] * 5 + ["elsewhere"])

    def test_greenlets_with_transactions_do_not_stop_each_other(self) -> None:
        server = self.serve()
        client = self.open(server)
        with ThreadPoolExecutor(3) as pool:
            for post in [pool.submit(request, "POST", server.url + "/slow") for _ in range(3)]:
                self.assertEqual(post.result(60).status, 201)
        self.assertEqual([event.data for event in client.events(6)], ["first", "second"] * 3)
        self.assertEqual(len(self.postgres.sessions(LISTENERS)), 1)


class GeventHangTest(PostgresGeventCase):
    def assert_nothing_raw(self, server: object) -> None:
        """The app's own view fails while PostgreSQL hangs, and Flask prints that."""

    def test_while_it_hangs_other_requests_are_answered(self) -> None:
        server = self.serve(heartbeat=0.5)
        client = self.open(server)
        self.publish(server, "before")
        self.postgres.pause()
        try:
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(request, "POST", server.url + "/events", body=b"lost", timeout=60)
                answered = 0
                while not waiting.done():
                    self.assertEqual(request("GET", server.url + "/nothing").status, 404)
                    answered += 1
                self.assertGreater(answered, 1)
                self.assertEqual(waiting.result(60).status, 500)
        finally:
            self.postgres.go_on()
        wait_until(lambda: request("GET", server.url + "/health").status == 200, timeout=60, message="it recovers")
        self.publish(server, "after")
        self.assertEqual(client.events(1)[0].data, "before")
        self.assertEqual(json.loads(request("GET", server.url + "/health").body)["streams"], 1)


if __name__ == "__main__":
    unittest.main()
