"""The loop when its worker ends: the listeners and the connections that wait in their queues."""

from __future__ import annotations

import logging
import socket
import time
import types
import unittest
from contextlib import ExitStack

from sse_threaded.server.accept_policy import AcceptPolicy
from sse_threaded.server.loop import Loop


class EndTest(unittest.TestCase):
    def setUp(self):
        self.resources = ExitStack()
        self.addCleanup(self.resources.close)

    def make_loop(self, **settings):
        listener = self.resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        cfg = types.SimpleNamespace(is_ssl=False, protocol="http", threads=2, keepalive=5, reuse_port=False)
        vars(cfg).update(settings)
        self.served = []
        self.loop = Loop(
            cfg,
            logging.getLogger(__name__),
            listeners=[listener],
            limit=10,
            policy=AcceptPolicy(None),
            serve=self.served.append,
            serve_elsewhere=self.served.append,
            told=lambda connections: None,
        )
        self.address = listener.getsockname()
        return listener

    def connect(self):
        client = self.resources.enter_context(socket.create_connection(self.address, timeout=10))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return client

    def end(self):
        self.loop.stop_accepting(time.monotonic() + 10)
        self.loop.lead(0.0)
        for conn in self.served:
            self.loop.close(conn)

    def test_listeners_are_closed_at_once(self):
        for was_leading in (False, True):
            listener = self.make_loop()
            if was_leading:
                self.loop.lead(0.0)
            self.end()
            self.assertEqual(listener.fileno(), -1)
            self.loop.lead(0.0)
            with self.assertRaises(ConnectionRefusedError):
                self.connect()

    def test_clients_in_a_queue_of_the_workers_own_are_served(self):
        self.make_loop(reuse_port=True)
        for _ in range(3):
            self.connect()
        self.end()
        self.assertEqual(len(self.served), 3)

    def test_clients_in_a_queue_that_workers_share_are_left_to_others(self):
        listener = self.make_loop()
        other = self.resources.enter_context(listener.dup())
        other.settimeout(10)
        self.connect()
        self.end()
        self.assertEqual(self.served, [])
        self.resources.enter_context(other.accept()[0])
