"""The server hooks, on a worker that is none: what its main thread is told, and what it passes on."""

import os
import signal
import types
import unittest
from unittest import mock

from sse_threaded import Hub
from sse_threaded.gunicorn_hooks import post_worker_init, stream_limit
from sse_threaded.process import close_all_when, process_budget
from tests.support import FAREWELL, wait_until
from tests.test_stream import make_environ

ENDS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


class HooksTest(unittest.TestCase):
    def setUp(self):
        for signum in ENDS:
            self.addCleanup(signal.signal, signum, signal.getsignal(signum))
        self.addCleanup(setattr, process_budget, "limit", process_budget.limit)
        self.addCleanup(close_all_when, lambda: False)

    def make_worker(self):
        cfg = types.SimpleNamespace(threads=64, workers=1)
        # It never says that it ends: what ends streams is the signal.
        return types.SimpleNamespace(alive=True, cfg=cfg, ppid=os.getppid(), log=mock.Mock(), wsgi=mock.Mock())

    def test_each_signal_ends_all_streams_and_reaches_gunicorn_too(self):
        for signum in ENDS:
            with self.subTest(signum), Hub() as hub:
                before = mock.Mock()
                signal.signal(signum, before)
                post_worker_init(self.make_worker())
                body = hub.stream(make_environ("/"), "a").response
                next(body)
                os.kill(os.getpid(), signum)
                wait_until(lambda handler=before: handler.called, message="gunicorn's own handler")
                self.assertRegex(next(body), rb"\A" + FAREWELL + rb"\Z")
                body.close()
                before.assert_called_once()

    def test_an_eighth_of_the_threads_and_two_at_least_are_kept(self):
        for threads, streams in ((1, 0), (2, 0), (3, 1), (8, 6), (16, 14), (64, 56), (128, 112)):
            with self.subTest(threads=threads):
                self.assertEqual(stream_limit(threads), streams)
