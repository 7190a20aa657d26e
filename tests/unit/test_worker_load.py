"""How workers of one server see who has the fewest connections."""

from __future__ import annotations

import os
import unittest
from unittest import mock

from sse_threaded.server.accept_policy import AcceptPolicy
from sse_threaded.server.worker_load import WorkerLoad


class WorkerLoadTest(unittest.TestCase):
    def setUp(self):
        self.now = 1000.0
        self.load = WorkerLoad(clock=lambda: self.now)

    def lead(self, worker, connections):
        self.load.look(worker)
        return self.load.lead(connections)

    def test_alone_there_is_nothing_to_lead(self):
        self.load.tell(1, 50)
        self.assertIsNone(self.lead(1, 50))

    def test_the_lead_over_the_one_with_the_fewest(self):
        for worker, connections in ((1, 50), (2, 7), (3, 9)):
            self.load.tell(worker, connections)
        self.assertEqual(self.lead(1, 50), 43)
        self.assertEqual(self.lead(2, 7), -2)

    def test_one_that_ends_or_is_silent_does_not_count(self):
        for worker, connections in ((1, 50), (2, 0), (3, 9)):
            self.load.tell(worker, connections)
        self.load.tell(2, None)
        self.assertEqual(self.lead(1, 50), 41)
        self.now += 10
        self.load.tell(1, 50)
        self.assertIsNone(self.lead(1, 50))

    def test_one_that_has_just_come_is_seen_at_once(self):
        self.assertIsNone(self.lead(1, 50))
        self.load.tell(2, 10)
        self.assertEqual(self.load.lead(50), 40)
        self.load.tell(2, 11)
        self.assertEqual(self.load.lead(50), 39)
        self.load.tell(2, None)
        self.assertIsNone(self.lead(1, 50))
        self.load.tell(2, 12)
        self.assertEqual(self.load.lead(50), 38)

    def test_one_that_has_not_looked_yet_sees_all_that_have_come(self):
        self.load.tell(1, 10)
        self.assertEqual(self.load.lead(50), 40)

    def test_it_is_shared_with_children(self):
        child = os.fork()
        if not child:
            self.load.tell(2, 30)
            os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(self.lead(1, 50), 20)

    def test_numbers_of_workers_may_grow(self):
        self.load.tell(5000, 3)
        self.assertEqual(self.lead(5001, 4), 1)

    def test_each_of_1024_workers_has_numbers_of_its_own(self):
        for worker in range(1024):
            self.setUp()
            self.load.tell(worker, 10)
            self.load.tell(worker + 1, 20)
            self.assertEqual(self.lead(worker + 1, 20), 10, worker)

    def test_one_counts_as_ended_three_seconds_after_its_last_word(self):
        self.load.tell(2, 10)
        self.now += 2
        self.assertEqual(self.lead(1, 50), 40)
        self.now += 1
        self.assertIsNone(self.lead(1, 50))
        self.load.tell(2, 10)
        self.assertEqual(self.load.lead(50), 40, "it has come again")

    def test_it_looks_for_others_only_where_one_has_come(self):
        self.load.look(1)
        self.load.tell(2, 10)
        with mock.patch.object(self.load, "look", wraps=self.load.look) as look:
            for later in (0, 2, 2, 2):
                self.now += later
                self.load.tell(2, 10 + later)
                self.load.lead(50)
        look.assert_called_once_with(1)

    def test_it_does_not_count_itself_whatever_it_has(self):
        self.load.tell(1, 3)
        self.load.tell(1 + 1024, 7)  # in the same slot, as so many workers ago
        self.assertIsNone(self.lead(1, 50))
        self.load.tell(2, 10)
        self.assertEqual(self.lead(2, 10), 3)


class AcceptPolicyTest(unittest.TestCase):
    def test_the_worker_with_more_leaves_connections_to_the_others_for_a_while(self):
        load = mock.Mock()
        policy = AcceptPolicy(load, clock=lambda: 1000.0)
        pauses = []
        for lead, share in (
            (None, 64),
            (-500, 64),
            (-3, 7),
            (0, 4),
            (3, 1),
            (4, 0),
            (4, 4),
            (10, 0),
            (200, 4),
            (200, 0),
        ):
            with self.subTest(lead=lead):
                load.lead.return_value = lead
                self.assertEqual(policy.share(10), share)
                if not share:
                    pauses.append(round(policy.paused_until - 1000.0, 6))
        self.assertEqual(pauses, [0.002, 0.005, 0.02])

    def test_a_worker_with_listeners_of_its_own_leaves_nothing_to_others(self):
        self.assertEqual(AcceptPolicy(None).share(1000), 64)

    def test_a_pause_ends(self):
        now = 1000.0
        policy = AcceptPolicy(None, clock=lambda: now)
        policy.pause(0.5)
        self.assertEqual(policy.pause_left(), 0.5)
        self.assertEqual(policy.paused_until, 1000.5)
        now += 0.5
        self.assertEqual(policy.pause_left(), 0.0)
        self.assertEqual(policy.paused_until, 0.0)
