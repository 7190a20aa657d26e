"""The board under gunicorn with its log, and its rows, in PostgreSQL: what is promised of SQLite."""

from __future__ import annotations

import signal
import unittest

from sse_threaded.testing import request
from tests.harness.postgres_server import PostgresServer
from tests.harness.warm_python import run_python
from tests.live import test_gunicorn
from tests.live.test_worker import WORKER
from tests.support import wait_until

ONCE = True  # it says the same under every Python


class OnPostgres(test_gunicorn.GunicornTest):
    """Gives each test a log of its own in one server."""

    args = WORKER
    cut_by_reload = ()

    @classmethod
    def setUpClass(cls):
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)

    def setUp(self):
        super().setUp()
        self.log_url = self.server.url(self.server.make_database())


class ProtocolTest(OnPostgres, test_gunicorn.ProtocolTest):
    # These are not of the log, or of one in memory; or of the worker's budget. Other modules have them.
    test_an_app_whose_log_is_in_the_memory_of_one_worker_of_two_is_warned = None
    test_one_worker_on_a_log_in_memory_works = None
    test_with_the_pool_full_of_streams_ordinary_requests_are_answered = None
    test_without_threads_to_spare_it_says_so_and_serves_the_rest = None


class EndTest(OnPostgres, test_gunicorn.EndTest):
    # These are as with any log.
    test_a_worker_that_holds_streams_is_not_killed_by_timeout = None
    test_readers_that_stall_do_not_hold_the_end_up = None


class FaultTest(OnPostgres, test_gunicorn.FaultTest):
    def publish_and_die(self):
        """Another process appends an event over a connection of its own, commits, and is dead before it rings."""
        code = """
import os, sys
import psycopg
from sse_threaded import open_log
log = open_log(sys.argv[1])
with psycopg.connect(sys.argv[1]) as connection:
    log.append("board-1", {"type": "note"}, connection=connection)
    connection.commit()
    os.kill(os.getpid(), 9)
"""
        self.assertEqual(run_python(code, self.log_url).returncode, -signal.SIGKILL)

    def test_a_process_that_dies_right_after_its_commit_leaves_its_event_to_the_others(self):
        server = self.serve("-w", "2")
        clients = [self.connect(server) for _ in range(6)]
        for number in range(3):
            self.publish_and_die()
            # A process that listens gives the event its number.
            wait_until(lambda number=number: len(self.log_ids()) == number + 1, timeout=30, message="a number")
            event_id = self.log_ids()[-1]
            for client in clients:
                self.assertEqual(client.next_event(timeout=30).last_event_id, event_id)

    def test_postgresql_is_away_for_a_while(self):
        server = self.serve(SSE_THREADED_HEARTBEAT="1")
        clients = [self.follow(server) for _ in range(10)]
        for client in clients:
            client.wait_for_connections()
        self.post(server)
        self.server.kill()
        wait_until(lambda: request("GET", server.url + "/healthz").status == 503, timeout=30)
        self.assertEqual(request("POST", server.url + "/boards/board-1/tasks", json={"title": "x"}).status, 503)
        self.server.start()
        wait_until(lambda: request("GET", server.url + "/healthz").status == 200, timeout=30)
        self.post(server)
        ids = self.log_ids()
        self.assertEqual(len(ids), 2)
        for client in clients:
            client.wait_for_events(2)
            self.assertEqual((client.ids, client.resets, client.connections), (ids, [], 1))


if __name__ == "__main__":
    unittest.main()
