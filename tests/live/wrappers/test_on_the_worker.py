"""Wrapped streams on this project's worker, where they hold no thread; and how servers end them on SIGTERM."""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
import unittest
from pathlib import Path

from gunicorn import version_info

from sse_threaded import open_log
from tests.live.wrappers.exercise import WRAPPERS, Exercise, Wrapper
from tests.live.wrappers.servers import serve
from tests.support import enter, temporary_directory, wait_until

QUIET = [wrapper for wrapper in WRAPPERS if wrapper.passes_preface and wrapper.name != "prefetching"]
FILTER, SLOW, STUCK, TRAILING, TWO, PLAIN = (
    Wrapper(name) for name in ("for_admin", "slow", "stuck", "trailing", "two_streams", "plain_for")
)
POSITIVE = Wrapper("positive", passes_preface=False)
NOT_EMPTY = Wrapper("not_empty")


class ServedTest(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)

    def serve(self, server="worker", **options):
        self.running = enter(self, serve(server, self.directory, **options))
        self.log = open_log(f"sqlite:///{self.directory}/{server}.db")
        self.addCleanup(self.log.close)

    def connect(self, wrapper, kind, **options):
        exercise = Exercise(self.running, self.log, wrapper)
        client = enter(self, exercise.connect(kind, "x", **options))
        if wrapper.passes_preface:
            client.wait_for(lambda: b"5000" in client.raw, what="the preface")
        return client, exercise

    def told(self, words):
        return self.running.get("/told").split().count(words)

    def wait_told(self, count, words):
        wait_until(lambda: self.told(words) >= count, message=words)

    def wait_count(self, count, hub):
        wait_until(lambda: self.running.streams()[hub] == count, message=f"{count} streams")

    def wait_free(self, timeout=30):
        wait_until(lambda: not any(self.running.streams().values()), timeout=timeout, message="no streams")


class WorkerTest(ServedTest):
    def test_forty_streams_on_four_threads_leave_them_to_others(self):
        self.serve(threads=4)
        wrappers = [QUIET[number % len(QUIET)] for number in range(40)]
        clients = [self.connect(wrapper, "quiet") for wrapper in wrappers]
        published = {}
        for wrapper in dict.fromkeys(wrappers):
            exercise = Exercise(self.running, self.log, wrapper)
            published[wrapper] = exercise.publish("x", 50)
        self.assertEqual(self.running.get("/ping"), "pong")
        for client, exercise in clients:
            with self.subTest(exercise.wrapper.name):
                expected = published[exercise.wrapper]
                self.assertEqual(exercise.events(client, len(expected)), expected)
        # Beside the four: the main thread, the pump, and the two of the log.
        self.assertLessEqual(self.running.threads(), 8)
        self.assertNotIn("keeps its thread", self.running.printed())
        self.assertEqual(self.running.printed().count("may hold events back"), 1)
        self.assertNotIn("CLOSED", self.running.printed())
        for client, _ in clients:
            client.close()
        self.wait_free()
        closable = sum(wrapper.name in ("with_close", "closing") for wrapper in wrappers)
        wait_until(lambda: self.running.printed().count("CLOSED") == closable, message="their close()")

    def test_wrappers_that_wait_for_something_leave_a_thread_to_others(self):
        self.serve(threads=4)
        clients = [self.connect(STUCK, "quiet") for _ in range(20)]
        self.log.append(clients[0][1].channel("x"), "WAIT")
        self.wait_told(2, "stuck")
        self.assertEqual(self.running.get("/ping"), "pong")
        self.running.get("/go")
        for client, _ in clients:
            self.assertEqual(client.next_event().data, "WAIT")

    def test_what_a_wrapper_has_given_is_sent_though_it_waits_for_something_in_the_same_burst(self):
        self.serve(threads=4)
        client, exercise = self.connect(STUCK, "quiet")
        with self.log.transaction() as transaction:
            for data in ("one", "two", "three", "WAIT", "four"):
                transaction.append(exercise.channel("x"), data)
        self.assertEqual([event.data for event in client.events(3)], ["one", "two", "three"])
        self.running.get("/go")
        self.assertEqual([event.data for event in client.events(2)], ["WAIT", "four"])

    def test_over_tls_a_hubs_own_limit_leaves_threads_to_others(self):
        self.serve("tls", threads=4)
        clients = [self.connect(PLAIN, "many")[0] for _ in range(5)]
        self.assertEqual(self.running.get("/ping"), "pong")
        refused = [client for client in clients if client_has(client, "stream-unavailable")]
        self.assertEqual(len(refused), 3)

    def test_streams_with_much_to_do_take_turns_with_requests(self):
        self.serve(threads=1)
        clients = [self.connect(SLOW, "quiet") for _ in range(3)]
        before = self.told("slow")
        expected = clients[0][1].publish("x", 60)
        clients[0][0].next_event()
        self.assertLess(self.told("slow") - before, 180)
        for number, (client, exercise) in enumerate(clients):
            self.assertEqual(exercise.events(client, 60 - (not number)), expected[not number :])

    def test_two_streams_in_one_response_follow_each_other(self):
        self.serve(threads=6)
        for moment in ("the first", "the second"):
            with self.subTest(moment):
                client, exercise = self.connect(TWO, "short")
                self.log.append(exercise.channel("x"), "one")
                self.assertEqual(client.next_event().data, "one")
                if moment == "the second":
                    client.wait_for(
                        lambda c=client: c.notices.count("stream-start") == 2, what="the second stream"
                    )
                    self.log.append("second", "two")
                    self.assertEqual(client.next_event().data, "two")
                client.close()
                self.wait_free()

    def test_those_that_keep_their_thread_are_few_and_named_once(self):
        for kind in ("quiet", "many"):  # the hub's own limit is on pages, and not on threads
            with self.subTest(kind):
                self.serve(threads=4)
                start = self.log.last_event_id()
                self.log.append("x-positive", "for:all")
                clients = [self.connect(POSITIVE, kind, last_event_id=start)[0] for _ in range(5)]
                for client in clients:
                    client.next_event()
                self.assertEqual(self.running.get("/ping"), "pong")
                wait_until(lambda: sum(self.running.streams().values()) == 2, message="two streams")
                self.log.append("x-positive", "for:all again")
                wait_until(lambda c=clients: sum(client_has(each, "again") for each in c) == 2, message="the two")
                printed = self.running.printed()
                self.assertEqual(printed.count("keeps its thread"), 1)
                self.assertIn("tests.live.wrappers.apps.<genexpr>", printed)
                for client in clients:
                    client.close()
                self.wait_free()


class SharedWorkerTest(ServedTest):
    """These leave the worker as they found it, so one is enough."""

    @classmethod
    def setUpClass(cls):
        resources = contextlib.ExitStack()
        cls.addClassCleanup(resources.close)
        directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-")))
        cls.running = resources.enter_context(serve("worker", directory, threads=4))
        cls.log = open_log(f"sqlite:///{directory}/worker.db")
        resources.callback(cls.log.close)

    def setUp(self):
        self.wait_free()

    def test_a_client_that_takes_its_time_at_the_end_gets_all(self):
        told = self.told("trailing")
        client, _ = self.connect(TRAILING, "short", receive_buffer=4096)
        self.wait_told(told + 1, "trailing")
        client.wait_for_end()
        self.assertTrue(client.complete)
        self.assertTrue(client.raw.endswith(b"xx\n"))
        self.wait_free()

    def test_readers_that_stall_hold_no_thread_and_are_cut_off(self):
        stalled = [self.connect(FILTER, "quiet", receive_buffer=4096) for _ in range(12)]
        stalled += [self.connect(TRAILING, "short", receive_buffer=4096)]
        healthy, exercise = self.connect(PLAIN, "quiet")
        before = self.running.kilobytes()
        for _ in range(8):
            with self.log.transaction() as transaction:
                for _ in range(250):
                    transaction.append(exercise.channel("x"), "all")
                    transaction.append(stalled[0][1].channel("x"), "for:all" + "x" * 4000)
            self.assertEqual(self.running.get("/ping"), "pong")
            self.assertEqual(len(healthy.events(250)), 250)
        self.assertLess(self.running.kilobytes() - before, 60_000)
        wait_until(lambda: self.running.streams()["quiet "] == 1, timeout=30, message="the stalled ones cut off")
        healthy.close()
        self.wait_free()

    def test_one_that_keeps_its_thread_waits_for_a_client_that_stalls(self):
        stalled, exercise = self.connect(NOT_EMPTY, "quiet", receive_buffer=4096)
        healthy, _ = self.connect(NOT_EMPTY, "quiet")
        ids = [self.log.append(exercise.channel("x"), "x" * 200_000) for _ in range(30)]
        for client in (healthy, stalled):
            self.assertEqual([client.next_event().last_event_id for _ in ids], ids)
        self.assertIn("keeps its thread", self.running.printed())
        self.assertNotIn("Traceback", self.running.printed())

    def test_one_that_keeps_its_thread_leaves_bodies_that_are_long_to_others(self):
        for _ in range(2):
            self.connect(NOT_EMPTY, "quiet", headers={"Content-Length": "5"})  # which never come
        with socket.create_connection(("127.0.0.1", self.running.port), timeout=20) as connection:
            head = b"GET /ping HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n"
            connection.sendall(head + b"x" * 1_000_000)
            received = b""
            while not received.endswith(b"pong"):
                received += connection.recv(65536)

    def test_a_response_to_a_request_with_a_body_says_that_it_closes_the_connection(self):
        fields = "Host: x\r\nContent-Length: 2\r\n"
        for wrapper in ("bare", "redacting", "not_empty", "chained", "flask_with_context", "middleware"):
            with self.subTest(wrapper):
                with socket.create_connection(("127.0.0.1", self.running.port), timeout=30) as connection:
                    target = f"/{wrapper}?hub=short&channel=x"
                    connection.sendall(f"GET {target} HTTP/1.1\r\n{fields}\r\n{{}}".encode())
                    received = b""
                    while piece := connection.recv(65536):
                        received += piece
                self.assertIn(b"Connection: close", received)
                self.assertTrue(received.endswith(b"\r\n0\r\n\r\n"), received)

    def test_the_connection_can_be_used_again(self):
        with socket.create_connection(("127.0.0.1", self.running.port), timeout=30) as connection:
            connection.sendall(b"GET /redacting?hub=short&channel=x HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += connection.recv(65536)
            self.assertIn(b"Connection: keep-alive", received)
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            while b"pong" not in received:
                received += connection.recv(65536)


def client_has(client, words):
    try:
        client.wait_for(lambda: words.encode() in client.raw or client.ended, timeout=0.2)
    except AssertionError:
        return False
    return words.encode() in client.raw


class EndTest(ServedTest):
    def test_on_sigterm_all_say_farewell_and_are_told_once(self):
        for server, threads in (("worker", 6), ("gthread", 60), ("tls", 60)):
            self.serve(server, threads=threads)
            clients = [self.connect(wrapper, "beating") for wrapper in WRAPPERS if wrapper.passes_preface]
            self.wait_count(len(clients), "beating ")
            self.running.process.terminate()
            for client, exercise in clients:
                with self.subTest(server=server, wrapper=exercise.wrapper.name):
                    client.wait_for_end()
                    self.assertTrue(client.complete)
                    self.assertIn(b"stream-end", client.raw)
                if server == "gthread" and (26,) <= version_info < (27, 0, 1):
                    client.close()  # there the end takes two seconds more for each client that does not close
            self.assertEqual(self.running.process.wait(15), 0)
            printed = self.running.printed()
            for _, exercise in clients:
                name = exercise.wrapper.name
                with self.subTest(server=server, wrapper=name):
                    self.assertEqual(len(re.findall(rf'"GET /{name}\?', printed)), 1)
                    self.assertEqual(len(re.findall(rf"POST_REQUEST /{name}$", printed, re.MULTILINE)), 1)
            self.assertEqual(printed.count("CLOSED with_close"), 1)
            self.assertEqual(printed.count("CLOSED closing"), 1)
            for words in ("Traceback", "Exception ignored"):
                self.assertNotIn(words, printed)


if __name__ == "__main__":
    unittest.main()
