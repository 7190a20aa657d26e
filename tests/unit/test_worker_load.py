"""How workers of one server see who has the fewest connections."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from sse_threaded.server import worker_load as shares
from sse_threaded.server.worker_load import WorkerLoad


class SharesTest(unittest.TestCase):
    def setUp(self):
        self.shares = WorkerLoad()
        self.now = 1000.0
        clock = mock.patch.object(shares.time, "monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)

    def lead(self, worker, connections):
        self.shares.look(worker)
        return self.shares.lead(connections)

    def test_alone_there_is_nothing_to_lead(self):
        self.shares.tell(1, 50)
        self.assertIsNone(self.lead(1, 50))

    def test_the_lead_over_the_one_with_the_fewest(self):
        for worker, connections in ((1, 50), (2, 7), (3, 9)):
            self.shares.tell(worker, connections)
        self.assertEqual(self.lead(1, 50), 43)
        self.assertEqual(self.lead(2, 7), -2)

    def test_one_that_ends_or_is_silent_does_not_count(self):
        for worker, connections in ((1, 50), (2, 0), (3, 9)):
            self.shares.tell(worker, connections)
        self.shares.retire(2)
        self.assertEqual(self.lead(1, 50), 41)
        self.now += 10
        self.shares.tell(1, 50)
        self.assertIsNone(self.lead(1, 50))

    def test_one_that_has_just_come_is_seen_at_once(self):
        self.assertIsNone(self.lead(1, 50))
        self.shares.tell(2, 10)
        self.assertEqual(self.shares.lead(50), 40)
        self.shares.tell(2, 11)
        self.assertEqual(self.shares.lead(50), 39)
        self.shares.retire(2)
        self.assertIsNone(self.lead(1, 50))
        self.shares.tell(2, 12)
        self.assertEqual(self.shares.lead(50), 38)

    def test_it_is_shared_with_children(self):
        child = os.fork()
        if not child:
            self.shares.tell(2, 30)
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(self.lead(1, 50), 20)

    def test_numbers_of_workers_may_grow(self):
        self.shares.tell(5000, 3)
        self.assertEqual(self.lead(5001, 4), 1)
