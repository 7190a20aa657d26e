"""How many connections a worker has room for, by how many files its process may open."""

from __future__ import annotations

import unittest
from unittest import mock

from sse_threaded.server import capacity
from sse_threaded.server.capacity import file_limit, kept_connections, make_room


class RoomTest(unittest.TestCase):
    def room(self, limits, wanted=10_000):
        """For how many connections there is room, and the limits that were set."""
        with (
            mock.patch.object(capacity.resource, "getrlimit", return_value=limits),
            mock.patch.object(capacity.resource, "setrlimit") as setrlimit,
        ):
            made = make_room(wanted, 8)
        limits_set = [call.args[1] for call in setrlimit.call_args_list]
        self.assertEqual(made.files, limits_set[0][0] if limits_set else limits[0])
        self.assertTrue(0 < made.idle < made.connections)
        return made.connections, limits_set

    def test_the_limit_on_open_files_is_raised_as_far_as_needed(self):
        self.assertEqual(self.room((1024, 1_000_000)), (10_000, [(10_200, 1_000_000)]))
        self.assertEqual(self.room((1024, capacity.resource.RLIM_INFINITY))[0], 10_000)

    def test_a_limit_that_is_high_enough_is_left_alone(self):
        self.assertEqual(self.room((20_000, 20_000)), (10_000, []))

    def test_where_it_cannot_be_raised_there_are_fewer_connections(self):
        self.assertEqual(self.room((1024, 4096)), (3896, [(4096, 4096)]))

    def test_of_few_files_a_half_is_for_connections(self):
        self.assertEqual(self.room((100, 100)), (50, [(100, 100)]))
        self.assertEqual(self.room((256, 256)), (128, [(256, 256)]))
        self.assertEqual(self.room((256, 256), wanted=100), (100, [(256, 256)]))

    def test_some_connections_are_kept_for_other_requests(self):
        for wanted, threads, idle in ((10_000, 8, 9_992), (1000, 999, 750), (4, 4, 2), (2, 8, 1)):
            with self.subTest(wanted=wanted, threads=threads):
                limits = mock.patch.object(capacity.resource, "getrlimit", return_value=(20_000, 20_000))
                with limits:
                    self.assertEqual(make_room(wanted, threads).idle, idle)

    def test_how_many_files_it_may_open_is_told_if_there_is_a_bound(self):
        for soft, expected in ((1024, 1024), (capacity.resource.RLIM_INFINITY, None)):
            with mock.patch.object(capacity.resource, "getrlimit", return_value=(soft, soft)) as getrlimit:
                self.assertEqual(file_limit(), expected)
            getrlimit.assert_called_once_with(capacity.resource.RLIMIT_NOFILE)

    def test_a_system_without_a_bound_on_files_has_room_for_all(self):
        infinity = capacity.resource.RLIM_INFINITY
        with (
            mock.patch.object(capacity.resource, "getrlimit", return_value=(infinity, infinity)),
            mock.patch.object(capacity.resource, "setrlimit") as setrlimit,
        ):
            self.assertEqual(make_room(10_000, 8), (10_000, 9_992, infinity))
        setrlimit.assert_not_called()

    def test_a_limit_that_is_just_high_enough_is_left_alone(self):
        self.assertEqual(self.room((10_200, 20_000)), (10_000, []))
        self.assertEqual(self.room((10_199, 20_000)), (10_000, [(10_200, 20_000)]))

    def test_of_two_connections_one_is_kept_and_of_four_two(self):
        for connections, kept in ((1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (11, 2), (12, 3), (100, 8)):
            with self.subTest(connections):
                self.assertEqual(kept_connections(connections, 8), kept)


if __name__ == "__main__":
    unittest.main()
