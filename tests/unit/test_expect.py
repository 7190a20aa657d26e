"""``100 Continue`` for a client that does not read: the thread that sends it must not wait for ever."""

from __future__ import annotations

import contextlib
import logging
import socket
import types
import unittest
from unittest import mock

from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server import deadlines
from sse_threaded.server.answering import Answering
from sse_threaded.server.connection import Connection

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"


class ExpectTest(unittest.TestCase):
    def setUp(self):
        self.ours, self.client = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.client.close)
        cfg = Config()
        log = types.SimpleNamespace(error_log=logging.getLogger(__name__))
        worker = types.SimpleNamespace(cfg=cfg, log=log)
        self.answering = Answering(worker, types.SimpleNamespace(reads=True))
        self.conn = Connection(self.ours, ("127.0.0.1", 1), ("127.0.0.1", 2))
        self.req = Request(cfg, IterUnreader([HEAD]), self.conn.client)

    def test_it_is_sent_once(self):
        self.assertEqual(self.answering._make_environ(self.conn, self.req)["REQUEST_METHOD"], "POST")
        self.ours.close()
        self.assertEqual(self.client.recv(4096), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_a_client_that_reads_nothing(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.ours.send(b"x" * 1024, socket.MSG_DONTWAIT)
        with mock.patch.object(deadlines, "SEND_SECONDS", 0.01), self.assertRaises(TimeoutError):
            self.answering._make_environ(self.conn, self.req)
