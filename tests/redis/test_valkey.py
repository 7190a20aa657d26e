"""What a server decides of a log in Redis, with Valkey in place of Redis.

Scripts, stream commands, INFO, refusals, persistence, Sentinels and Clusters are the server's. Other tests of the
log in Redis run with Redis only.
"""

import unittest
from unittest import mock

from tests.harness import redis_server
from tests.redis import test_board_store_redis, test_log_redis, test_log_redis_contract, test_log_redis_nodes

ONCE = True  # it says the same under every Python

_valkey = mock.patch.object(redis_server, "program", "valkey-server")


def setUpModule():
    _valkey.start()
    unittest.addModuleCleanup(_valkey.stop)


class ServerTest(unittest.TestCase):
    def test_it_is_valkey(self):
        server = redis_server.RedisServer()
        self.addCleanup(server.close)
        with server.client() as client:
            self.assertEqual(client.info("server")["server_name"], "valkey")


class ContractTest(test_log_redis_contract.RedisLogTest):
    pass


class StoreTest(test_board_store_redis.RedisStoreTest):
    pass


class LossTest(test_log_redis.LossTest):
    # These are of the package's memory.
    test_a_parked_stream_that_arrives_with_a_place_in_another_log_is_told = None
    test_a_stream_that_arrives_while_the_log_is_made_anew_is_told = None
    test_what_is_remembered_of_a_log_that_is_gone_is_not_sent_as_the_new_ones = None


class ExpiryTest(test_log_redis.ListeningTest):
    # These are of the listener, or heavy.
    test_a_busy_reader_reads_on_from_the_log = None
    test_a_feed_that_somebody_trimmed_is_noticed = None
    test_a_page_of_many_channels_has_a_part_of_each = None
    test_an_entry_that_is_no_event_is_told_and_not_looked_at_all_the_time = None
    test_one_connection_listens = None
    test_sixteen_channels_in_turn_are_all_trimmed = None
    test_the_feed_is_bounded_in_bytes_too = None
    test_what_has_not_come_yet_is_awaited = None


class RestartTest(test_log_redis.RestartTest):
    # These are of the package's waiting.
    test_after_a_restart_replays_come_from_memory_too = None
    test_an_old_failure_says_nothing_about_now = None
    test_one_thread_at_a_time_finds_out_whether_redis_is_back = None
    test_publishing_waits_for_a_restart_and_then_gives_up = None
    test_without_redis_an_app_starts_and_finds_it_later = None


class DenialTest(test_log_redis.DenialTest):
    test_a_process_that_takes_anothers_place_begins_even_where_it_is_denied = None  # the package decides


class TransactionTest(test_log_redis.LostAnswerTest):
    pass


class FailoverTest(test_log_redis_nodes.FailoverTest):
    pass


class ClusterTest(test_log_redis_nodes.ClusterTest):
    test_one_that_is_away_is_waited_for = None  # the package waits


class ClusterOfTwoTest(test_log_redis_nodes.ClusterOfTwoTest):
    pass


if __name__ == "__main__":
    unittest.main()
