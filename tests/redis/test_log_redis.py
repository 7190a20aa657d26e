"""What only the log in Redis meets: a cut connection, a restart, a flush, lost data."""

import contextlib
import logging
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

import redis
from redis.exceptions import ResponseError

from sse_threaded import HistoryGone, Hub, LogUnavailable, LogUnusable, Retention, open_log
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.recent_events import RecentEvents
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.log.redis.client import RedisClient, SharedClient
from sse_threaded.log.redis.errors import Unreachable
from sse_threaded.log.redis.event_buffer import EventBuffer
from sse_threaded.log.redis.log import RedisLog
from sse_threaded.log.redis.scripts import GAP
from sse_threaded.log.redis.timeouts import Timeouts
from sse_threaded.log.redis.url import parse_url
from sse_threaded.log.retention import AS_OTHERS_KEEP
from tests.harness.redis_server import RedisServer
from tests.support import ROOT, free_port, missing, temporary_directory, wait_until
from tests.unit.fake_handover import FakeHandover


def refusal(command, *args):
    """What Redis says instead of an answer."""
    try:
        command(*args)
    except ResponseError as error:
        return str(error)
    return ""


def number_of(event_id):
    return int(event_id.partition("-")[2])


# What docs/deployment.md says that a user needs.
RIGHTS = re.search(r"ACL SETUSER app on >password (.+) ~", (ROOT / "docs/deployment.md").read_text())[1].split()


class RedisCase(unittest.TestCase):
    """With a server for all its tests."""

    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.redis = RedisServer(*cls.flags)
        cls.addClassCleanup(cls.redis.close)

    def setUp(self):
        self.url = self.redis.url()
        self.log = self.open()

    def open(self, url=None, retention=None, **options):
        log = RedisLog(url or self.url, retention, **options)
        self.addCleanup(log.close)
        return log

    def listen(self, log):
        """Open a doorbell, and wait until the listener is there."""
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        wait_until(lambda: self.end_of(log) is not None, message="the listener has begun")
        return doorbell

    @staticmethod
    def end_of(log):
        """The number of the newest event that the listener has brought."""
        return log.listener.buffer.place[1]

    def cut_listeners(self):
        """Cut the connections of all listeners."""
        with self.redis.client() as client:
            for each in client.client_list():
                if each["name"] == "sse_threaded-listener":
                    client.client_kill_filter(_id=each["id"])

    def come(self, log, after, count):
        """What comes after a number, once it is so many events."""
        found = []

        def read():
            found[:] = log.read(after)
            return len(found) >= count

        wait_until(read, message=f"{count} events")
        return [record.data for record in found]

    def client(self):
        """A client of the driver's, closed after the test."""
        client = self.redis.client()
        self.addCleanup(client.close)
        return client

    def key(self, log, name):
        """The whole name of one of the log's keys."""
        return f"{{{log.url.partition('prefix=')[2]}}}:{name}"


class LossTest(RedisCase):
    """Clients get a reset for lost events, whoever looks first."""

    def lose(self, log, count, last):
        """Make it a server that did not get the last ``count`` events of channel a and ends with ``last``."""
        client, base = self.client(), self.key(log, log.epoch)
        for stream in (f"{base}:feed", f"{base}:channel:a") if count else ():
            client.xdel(stream, *(entry for entry, _ in client.xrevrange(stream, count=count)))
        client.hset(self.key(log, "meta"), mapping={"last": last, "run": "another:server"})

    def test_a_pump_that_is_behind_the_listener_notices_it(self):
        self.listen(self.log)
        for number in range(4):
            self.log.append("a", str(number))
        self.come(self.log, 0, 4)
        self.lose(self.log, 1, 3)
        self.cut_listeners()
        wait_until(lambda: self.end_of(self.log) == 3, message="the listener to look again")
        self.open().append("a", "new")
        wait_until(lambda: (self.end_of(self.log) or 0) > GAP)
        self.assertRaises(HistoryGone, self.log.read, 4)

    def test_a_replay_from_beyond_the_end_notices_it(self):
        self.log.append("a", "x")
        self.assertRaises(HistoryGone, self.log.read, 5, channels=["a"])

    def test_a_first_event_that_was_lost_leaves_a_gap_too(self):
        first = self.log.append("a", "lost")
        self.lose(self.log, 1, 0)
        second = self.log.append("a", "new")
        self.assertNotEqual(first, second)
        with self.assertRaises(HistoryGone):
            self.log.read(self.log.sequence_of(first), channels=["a"])

    def test_a_master_that_was_a_replica_meanwhile_is_another_server(self):
        self.log.append("a", "x")
        with self.redis.client() as client:
            client.replicaof("127.0.0.1", free_port())
            client.replicaof("no", "one")
        self.assertGreater(self.log.sequence_of(self.log.append("a", "y")), GAP)

    def test_a_transaction_that_does_nothing_ends_no_stream(self):
        self.listen(self.log)
        self.log.append("a", "x")
        self.come(self.log, 0, 1)
        self.lose(self.log, 0, 1)
        with self.log.transaction():
            pass
        self.assertGreater(self.log.last_sequence(), GAP)
        update = EventBuffer.update
        with mock.patch.object(EventBuffer, "update", autospec=True, side_effect=update) as looks:
            wait_until(lambda: looks.call_count >= 2, message="two looks at a log in which nothing comes")
        self.assertEqual(self.log.read(1), [])
        self.log.append("a", "y")
        wait_until(lambda: [r.data for r in self.log.read(1)] == ["y"])

    def test_a_parked_stream_that_arrives_with_a_place_in_another_log_is_told(self):
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        cursor = Cursor(hub.log, ["a"], hub.publish("a", "x"))
        with self.redis.client() as client:
            client.flushall()
        hub.publish("a", "anew")
        self.assertTrue(cursor.is_stale)
        self.assertIn(b"event: reset", cursor.read_wire())

    def test_a_stream_that_arrives_while_the_log_is_made_anew_is_told(self):
        """Its place is a number of the old log, greater than all numbers of the new log."""
        hub = Hub(self.url, heartbeat=600)
        self.addCleanup(hub.close)
        other = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        self.addCleanup(other.close)
        next(other)
        for number in range(5):
            last = hub.publish("a", str(number))
        wait_until(lambda: "position=5>" in repr(hub))
        server, client = socket.socketpair()
        self.addCleanup(server.close)
        self.addCleanup(client.close)
        begin = SocketSubscriber.begin

        def begin_late(parked, head, frame):
            is_sent = begin(parked, head, frame)
            with self.redis.client() as redis:
                redis.flushall()
            hub.publish("a", "new")
            wait_until(lambda: "position=1>" in repr(hub), message="the pump is in the new log")
            return is_sent

        cursor = Cursor(hub.log, ("a",), last)
        with mock.patch.object(SocketSubscriber, "begin", begin_late):
            hub._pump.reserve()
            handover = FakeHandover(server.close)
            parked = SocketSubscriber(("a",), 10, server, chunked=False, cursor=cursor, handover=handover)
            hub._pump.park(parked, b"retry: 1\n\n")
        client.settimeout(20)
        told = b""
        while b"event: reset" not in told:
            piece = client.recv(4096)
            self.assertTrue(piece, told)
            told += piece

    def test_what_redis_may_evict_is_warned_of(self):
        with self.redis.client() as client:
            self.addCleanup(lambda: self.redis.client().config_set("maxmemory-policy", "noeviction"))
            for policy in ("allkeys-lru", "volatile-ttl"):
                client.config_set("maxmemory-policy", policy)
                with self.subTest(policy), self.assertLogs("sse_threaded.log.redis.log", logging.WARNING):
                    self.open()

    def test_what_is_remembered_of_a_log_that_is_gone_is_not_sent_as_the_new_ones(self):
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        hub.publish("a", "old")
        stream = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        self.addCleanup(stream.close)
        next(stream)
        hub.publish("a", "old, too")
        while b"old, too" not in next(stream):
            pass
        registry, asks, go_on = hub._pump._registry, threading.Event(), threading.Event()
        real = hub.log.last_sequence

        def last_sequence():
            if threading.current_thread().name == "sse_threaded pump":
                asks.set()
                go_on.wait(20)
            return real()

        with mock.patch.object(hub.log, "last_sequence", last_sequence), self.redis.client() as client:
            client.flushall()
            hub.publish("a", "new")
            self.assertTrue(asks.wait(20))  # the pump has the new epoch, but no position in it yet
            parked = mock.Mock(channels=("a",), cursor=Cursor(hub.log, ("a",), hub.log.event_id(0)))
            self.assertIsNone(registry.missed(parked))
            go_on.set()

        def is_in_the_new_log():
            parked.cursor = Cursor(hub.log, ("a",), hub.log.last_event_id())
            return registry.missed(parked) is not None

        wait_until(is_in_the_new_log, message="the new log's events in memory")

    def test_trimming_goes_to_the_end(self):
        log = self.open(retention=Retention(count=10, age=None))
        other = self.open()
        for number in range(500):
            other.append("ab"[number % 2], str(number))
        log.trim()
        for channel in "ab":
            self.assertEqual(self.client().xlen(self.key(log, f"{log.epoch}:channel:{channel}")), 10)


class ListeningTest(RedisCase):
    def test_what_others_append_arrives(self):
        self.listen(self.log)
        other = self.open()
        other.append("a", "one")
        other.append("b", "two", "named")
        self.assertEqual(self.come(self.log, 0, 2), ["one", "two"])
        self.assertEqual(self.log.read(1)[0].event, "named")

    def test_a_busy_reader_reads_on_from_the_log(self):
        self.listen(self.log)
        with self.log.transaction() as transaction:
            for number in range(2500):
                transaction.append("a", str(number))
        wait_until(lambda: self.end_of(self.log) == 2500)
        kept = int(re.search(r"events=(\d+)", repr(self.log))[1])
        self.assertLessEqual(kept, 2000)
        found = []
        while page := self.log.read(len(found)):
            found += [record.data for record in page]
        self.assertEqual(found, [str(number) for number in range(2500)])

    def test_one_connection_listens(self):
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        streams = [iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response) for _ in range(20)]
        for stream in streams:
            next(stream)
        hub.publish("a", "x")
        for stream in streams:
            while b"data: x" not in next(stream):
                pass
        with self.redis.client() as client:
            # The connections of other tests are closed by and by.
            wait_until(lambda: [each["name"] for each in client.client_list()].count("sse_threaded-listener") == 1)
        for stream in streams:
            stream.close()

    def test_a_feed_that_somebody_trimmed_is_noticed(self):
        self.listen(self.log)
        self.log.append("a", "one")
        self.come(self.log, 0, 1)
        with self.redis.client() as client:
            client.delete(self.key(self.log, f"{self.log.epoch}:feed"))
            client.hincrby(self.key(self.log, "meta"), "last", 5)
        wait_until(lambda: "start=6 " in repr(self.log), timeout=20, message="the listener has begun anew")
        with self.assertRaises(HistoryGone):
            self.log.read(1)

    def test_a_channel_that_redis_evicted_is_no_silence(self):
        self.log.append("a", "one")
        self.log.append("b", "two")
        with self.redis.client() as client:
            client.delete(self.key(self.log, f"{self.log.epoch}:channel:a"))
        self.assertRaises(HistoryGone, self.log.read, 0, channels=["a"])
        self.assertEqual(len(self.log.read(0, channels=["b"])), 1)
        self.log.append("a", "three")
        self.assertRaises(HistoryGone, self.log.read, 0, channels=["a"])
        self.assertEqual([r.data for r in self.log.read(2, channels=["a"])], ["three"])

    def test_what_has_not_come_yet_is_awaited(self):
        self.listen(self.log)
        with mock.patch.object(EventBuffer, "add", return_value=True):  # it is far behind
            for number in range(10):
                self.log.append("a", str(number))
            last = self.log.last_sequence()
            self.assertEqual(self.log.read(last), [])
        self.assertRaises(HistoryGone, self.log.read, last + 1)
        self.assertEqual(self.come(self.log, 0, 10), [str(number) for number in range(10)])
        self.log.append("a", "next")
        self.assertEqual(self.come(self.log, last, 1), ["next"])

    def test_an_entry_that_is_no_event_is_told_and_not_looked_at_all_the_time(self):
        self.listen(self.log)
        with self.redis.client() as client, self.assertLogs("sse_threaded", logging.ERROR) as logged:
            client.xadd(self.key(self.log, f"{self.log.epoch}:feed"), {"foreign": "x"}, id="1-1")
            wait_until(lambda: self.log.listener.failure, message="the listener has failed")
            time.sleep(1.0)
            self.assertRaises(LogUnavailable, self.log.read, 0)
        self.assertLess(len(logged.records), 8)

    def test_the_feed_is_bounded_in_bytes_too(self):
        self.listen(self.log)
        for number in range(100):
            self.log.append("a", str(number) + "x" * 900_000)
        client = self.client()
        self.assertLess(client.memory_usage(self.key(self.log, f"{self.log.epoch}:feed"), 0), 80_000_000)
        self.assertEqual(client.xlen(self.key(self.log, f"{self.log.epoch}:channel:a")), 100)
        wait_until(lambda: (self.end_of(self.log) or 0) == 100, message="the listener has come along")
        # A reader that is behind the feed reads the channels.
        behind = self.open()
        with self.assertRaisesRegex(HistoryGone, "expired"):
            behind.read(1)
        self.assertEqual(behind.read(1, channels=["a"])[0].data[:2], "1x")

    def test_a_page_of_many_channels_has_a_part_of_each(self):
        names = [f"c{number}" for number in range(20)]
        for number in range(800):
            self.log.append(names[number % 20] if number < 400 else "c0", str(number))
        self.log.append("c1", "last")
        with mock.patch.object(SharedClient, "run", autospec=True, side_effect=SharedClient.run) as run:
            found, after, answers = [], 0, []
            while page := self.log.read(after, channels=names):
                found += [record.data for record in page]
                after = page[-1].sequence
            answers = [call.args[2] for call in run.call_args_list]
        self.assertEqual(found, [*map(str, range(800)), "last"])
        self.assertEqual({args[3] for args in answers}, {11})  # entries of each, and one that says there are more
        self.assertLess(len(answers), 60)

    def test_a_channel_without_an_end_does_not_keep_the_log_from_forgetting_others(self):
        endless = self.open(retention=Retention(age=None))
        endless.append("old", "x")
        other = self.open(retention=Retention(age=3600), remembered_channels=10)
        client = self.client()
        for number in range(64):
            other.append(f"c{number}", "x")
        old = self.key(other, f"{other.epoch}:channel:old")
        self.assertGreater(client.pttl(old), 0)
        client.delete(old, *(self.key(other, f"{other.epoch}:channel:c{number}") for number in range(40)))
        for _ in range(64):
            other.append("new", "x")
        self.assertLess(client.zcard(self.key(other, f"{other.epoch}:last")), 30)

    def test_history_is_a_channels_own(self):
        for number in range(50):
            self.log.append("busy", str(number))
        self.log.append("quiet", "x")
        with self.redis.client() as client:
            before = client.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"]
            self.assertEqual(len(self.log.read(0, channels=["quiet"])), 1)
            self.assertEqual(client.info("commandstats")["cmdstat_xrange"]["calls"], before + 1)

    def test_trimming_goes_along_with_appends(self):
        log = self.open(retention=Retention(count=20, age=None))
        for number in range(500):
            log.append("a", str(number))
        length = self.client().xlen(self.key(log, f"{log.epoch}:channel:a"))
        self.assertLessEqual(length, 40)
        self.assertGreaterEqual(length, 20)

    def test_sixteen_channels_in_turn_are_all_trimmed(self):
        log = self.open(retention=Retention(count=10, age=None))
        for number in range(16 * 60):
            log.append(f"c{number % 16}", "x")
        for number in range(16):
            self.assertLessEqual(self.client().xlen(self.key(log, f"{log.epoch}:channel:c{number}")), 30)

    def test_an_event_that_is_kept_for_ever_does_not_expire_with_those_before_it(self):
        bounded, unbounded = self.open(retention=Retention(age=60)), self.open(retention=Retention(age=None))
        bounded.append("a", "x")
        unbounded.append("a", "y")
        client = self.client()
        for name in ("channel:a", "feed"):
            self.assertEqual(client.pttl(self.key(unbounded, f"{unbounded.epoch}:{name}")), -1, name)

    def test_who_has_no_say_keeps_what_the_others_keep(self):
        client, channel = self.client(), "channel:a"
        for others, count, left in (
            (None, 10_000, 86_400_000),  # nobody has said so
            (Retention(count=20, age=60), 20, 60_000),
            (Retention(count=20, age=None), 20, -1),
            (Retention(count=None, age=None), None, -1),
            (Retention(count=10, age=3600), 10, 3600_000),
        ):
            with self.subTest(others=others):
                guest = self.open(retention=AS_OTHERS_KEEP)
                if others:
                    self.open(retention=others).append("b", "x")
                before = client.xlen(self.key(guest, f"{guest.epoch}:{channel}"))
                for _ in range(100):
                    guest.append("a", "x")
                key = self.key(guest, f"{guest.epoch}:{channel}")
                self.assertLessEqual(client.xlen(key), 2 * (count or 10_000))
                self.assertGreaterEqual(client.xlen(key), min(count or 10_000, before + 100))
                found = client.pttl(key)
                self.assertTrue(found == left or left - 50_000 < found <= left, found)

    def test_what_is_old_expires_by_itself(self):
        log = self.open(retention=Retention(count=None, age=3600))
        log.append("a", "x")
        left = self.client().pttl(self.key(log, f"{log.epoch}:channel:a"))
        self.assertTrue(3500_000 < left <= 3600_000, left)


class BeginningAnewTest(RedisCase):
    def test_a_flush_is_noticed_and_told(self):
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        stream = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        next(stream)
        last = hub.publish("a", "before")
        while b"data: before" not in next(stream):
            pass
        with self.redis.client() as client:
            client.flushall()
        rest = b"".join(stream)  # it ends, though nothing comes
        self.assertIn(b"retry:", rest)
        again = iter(hub.stream({"REQUEST_METHOD": "GET", "HTTP_LAST_EVENT_ID": last}, "a").response)
        self.addCleanup(again.close)
        found = b""
        while b"event: reset" not in found:
            found += next(again)
        self.assertIn(b'"epoch"', found)
        self.assertNotIn(last.encode(), found.partition(b"event: reset")[0])
        hub.publish("a", "after")
        while b"data: after" not in next(again):
            pass

    def test_appending_after_a_flush_begins_another_epoch(self):
        first = self.log.append("a", "x")
        with self.redis.client() as client:
            client.flushall()
        second = self.log.append("a", "y")
        self.assertNotEqual(first.partition("-")[0], second.partition("-")[0])
        self.assertTrue(second.endswith("-1"))
        with self.assertRaises(HistoryGone) as caught:
            self.log.sequence_of(first)
        self.assertEqual(caught.exception.reason, "epoch")

    def test_two_processes_agree_on_the_epoch(self):
        with self.redis.client() as client:
            client.flushall()
        logs = [self.open(self.url) for _ in range(4)]
        self.assertEqual(len({log.epoch for log in logs}), 1)

    def test_a_newer_schema_is_left_alone(self):
        self.client().hset(self.key(self.log, "meta"), "schema", 9)
        with self.assertRaisesRegex(LogUnusable, "newer sse_threaded"):
            open_log(self.url)

    def test_keys_of_another_program_are_left_alone(self):
        url = self.redis.url(prefix="theirs")
        with self.redis.client() as client:
            client.set("{theirs}:meta", "theirs")
        with self.assertRaisesRegex(LogUnusable, "prefix"):
            open_log(url)


class RestartTest(unittest.TestCase):
    def setUp(self):
        self.redis = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self.addCleanup(self.redis.close)
        self.url = self.redis.url()

    def open(self, **options):
        log = RedisLog(self.url, **options)
        self.addCleanup(log.close)
        return log

    def test_after_a_crash_without_loss_clients_go_on(self):
        log = self.open()
        last = log.append("a", "one")
        self.redis.kill()
        self.redis.start()
        self.assertGreater(number_of(log.append("a", "two")), GAP)
        self.assertEqual(log.sequence_of(last), 1)
        self.assertEqual([r.data for r in log.read(1, channels=["a"])], ["two"])
        self.assertEqual([r.data for r in log.read(0)], ["one", "two"])

    def test_numbers_that_were_lost_are_not_given_again(self):
        log = self.open()
        for number in range(3):
            log.append("a", str(number))
        lost = log.append("a", "lost")
        # The last event is removed, then the server restarts: like a server that had not written it to the disk.
        meta = f"{{{log.url.partition('prefix=')[2]}}}:meta"
        base = meta.removesuffix("meta") + log.epoch
        client = self.redis.client()
        self.addCleanup(client.close)
        client.xtrim(f"{base}:feed", maxlen=0)
        client.xdel(f"{base}:channel:a", client.xrevrange(f"{base}:channel:a", count=1)[0][0])
        client.hset(meta, "last", 3)
        self.redis.kill()
        self.redis.start()
        other = self.open()
        self.assertGreater(number_of(other.append("a", "new")), GAP)
        for each in (log, other, self.open()):
            with self.assertRaises(HistoryGone):
                each.read(each.sequence_of(lost), channels=["a"])
            self.assertEqual([r.data for r in each.read(3, channels=["a"])], ["new"])

    def test_a_torn_step_in_the_append_only_file_counts_for_nothing(self):
        # Redis 7.0 leaves a part of it in the file, and runs that part at the second start after this.
        log = self.open()
        kept = log.append("a", "kept")
        lost = log.append("a", "lost")
        self.redis.kill()
        self.redis.tear(b"channel:a")
        self.redis.start()
        self.assertEqual(log.last_event_id(), kept)
        new = log.append("a", "new")
        self.redis.kill()
        self.redis.start()
        self.assertEqual(log.last_event_id(), new)
        with self.assertRaises(HistoryGone):
            log.read(log.sequence_of(lost), channels=["a"])
        self.assertEqual([r.data for r in log.read(1)][-1], "new")

    def test_after_a_restart_replays_come_from_memory_too(self):
        log = self.open()
        log.append("a", "before")
        self.redis.kill()
        self.redis.start()
        for number in range(100):
            log.append("a", str(number))
        recent = RecentEvents(log, 0)
        recent.fill(log.last_sequence())
        self.assertGreater(recent.batch_after(("a",), recent.floor)[0].count, 50)

    def test_streams_stay_open_and_go_on(self):
        hub = Hub(self.url, heartbeat=0.2)
        self.addCleanup(hub.close)
        stream = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        self.addCleanup(stream.close)
        next(stream)
        hub.publish("a", "before")
        while b"data: before" not in next(stream):
            pass
        with self.assertLogs("sse_threaded", logging.ERROR):
            self.redis.kill()
            for _ in range(5):
                self.assertIn(b": heartbeat", next(stream))
            with self.assertRaises(LogUnavailable):
                hub.health()
        self.redis.start()
        hub.publish("a", "after")
        found = b""
        while b"data: after" not in found:
            found += next(stream)
        self.assertNotIn(b"retry", found)
        self.assertEqual(hub.health()["streams"], 1)

    def test_publishing_waits_for_a_restart_and_then_gives_up(self):
        log = self.open()
        self.redis.kill()
        self.assertRaises(LogUnavailable, log.last_sequence)  # known to be away: appends wait all the same
        later = threading.Timer(1.0, self.redis.start)
        later.start()
        self.addCleanup(later.join)
        log.append("a", "waited")
        self.redis.kill()
        begun = time.monotonic()
        with self.assertRaisesRegex(LogUnavailable, "could not be reached for 5 s"):
            log.append("a", "never")
        self.assertGreater(time.monotonic() - begun, 2.0)
        self.redis.start()
        self.assertEqual([r.data for r in log.read(0)], ["waited"])

    def test_one_thread_at_a_time_finds_out_whether_redis_is_back(self):
        log = self.open(timeouts=Timeouts(retry=0.05, forget=60))
        self.redis.kill()
        self.assertRaises(LogUnavailable, log.last_sequence)
        time.sleep(0.1)  # longer than an append tries
        inside, go_on, failed = threading.Event(), threading.Event(), []

        def run(client, script, args, retry_for):
            self.assertEqual(retry_for, 0.0)
            inside.set()
            go_on.wait(10)
            raise Unreachable(log.url, "still away")

        def append():
            try:
                log.append("a", "x")
            except LogUnavailable as error:
                failed.append(str(error))

        with mock.patch.object(RedisClient, "run", run):
            thread = threading.Thread(target=append)
            thread.start()
            self.assertTrue(inside.wait(10))
            with self.assertRaisesRegex(LogUnavailable, "another thread is trying"):
                log.append("a", "x")
            with self.assertRaisesRegex(LogUnavailable, "another thread is trying"):
                log.last_sequence()
            go_on.set()
            thread.join(10)
        self.assertIn("still away", failed[0])
        self.redis.start()
        log.append("a", "back")
        self.assertEqual([r.data for r in log.read(0)], ["back"])

    def test_an_old_failure_says_nothing_about_now(self):
        log = self.open(timeouts=Timeouts(forget=0.05))
        self.redis.kill()
        self.assertRaises(LogUnavailable, log.last_sequence)
        self.redis.start()
        time.sleep(0.1)
        with log._client._reachability._trying:  # a thread that began long ago; nothing public holds it so long
            log.append("a", "x")

    def test_scripts_that_redis_forgot_are_sent_again(self):
        log = self.open()
        with self.redis.client() as client:
            for _ in range(20):
                client.script_flush()
                log.append("a", "x")
        self.assertEqual(log.last_sequence(), 20)

    def test_without_redis_an_app_starts_and_finds_it_later(self):
        self.redis.kill()
        with self.assertLogs("sse_threaded.log.startup", logging.WARNING):
            log = self.open()
        self.assertRaises(LogUnavailable, lambda: log.epoch)
        later = threading.Timer(0.5, self.redis.start)
        later.start()
        self.addCleanup(later.join)
        self.assertTrue(log.append("a", "x").endswith("-1"))


class LostAnswerTest(RedisCase):
    def test_an_append_whose_answer_got_lost_is_not_done_twice(self):
        with self.losing(lambda words: "once" in words, times=1) as lost:
            event_id = self.log.append("a", "once")
        self.assertEqual(len(lost), 2)
        self.assertEqual(event_id, f"{self.log.epoch}-1")
        self.assertEqual([r.data for r in self.log.read(0)], ["once"])

    @staticmethod
    @contextlib.contextmanager
    def losing(is_meant, times):
        """Lose the first answers to the scripts whose words ``is_meant`` accepts; yields the calls of these."""
        execute, calls = redis.Redis.execute_command, []

        def execute_and_lose(client, *words, **options):
            answer = execute(client, *words, **options)
            if words[0] in ("EVAL", "EVALSHA") and is_meant(words):
                calls.append(words)
                if len(calls) <= times:
                    raise ConnectionResetError("the answer got lost")
            return answer

        with mock.patch.object(redis.Redis, "execute_command", execute_and_lose):
            yield calls

    def test_a_transaction_whose_answer_got_lost_is_not_done_twice(self):
        with (
            self.losing(lambda words: "two" in words, times=2) as calls,
            self.log.transaction() as transaction,
        ):
            transaction.append("a", "one")
            last = transaction.append("a", "two")
        self.assertEqual(len(calls), 3)
        self.assertEqual([r.data for r in self.log.read(0)], ["one", "two"])
        self.assertEqual(self.log.last_event_id(), last)

    def test_a_process_with_transactions_all_the_time_leaves_others_their_turn(self):
        other, done = self.open(), threading.Event()

        def change():
            while not done.is_set():
                with other.transaction() as transaction:
                    transaction.append("a", "x")
                    time.sleep(0.02)

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(8):
                self.log.append("b", "x")
        finally:
            done.set()
            thread.join()
        self.assertEqual(len(self.log.read(0, channels=["b"])), 8)

    def test_others_wait_for_a_transaction(self):
        other = self.open()
        done = threading.Event()

        def append():
            other.append("a", "third")
            done.set()

        with self.log.transaction() as transaction:
            transaction.append("a", "first")
            thread = threading.Thread(target=append)
            thread.start()
            self.assertFalse(done.wait(0.3))
            transaction.append("a", "second")
        thread.join(10)
        self.assertEqual([r.data for r in self.log.read(0)], ["first", "second", "third"])

    def test_a_transaction_that_took_too_long_does_nothing(self):
        with self.assertRaises(LogUnavailable), self.log.transaction() as transaction:
            transaction.append("a", "x")
            self.client().delete(self.key(self.log, "lock"))  # as its expiry would
        self.assertEqual(self.log.last_sequence(), 0)

    def test_a_body_of_ones_own_is_one_step_with_its_event(self):
        body = """
        if redis.call('EXISTS', base .. 'mine') == 1 then return redis.error_reply('it is there') end
        redis.call('SET', base .. 'mine', args[1])
        return append('a', args[1], 'made')
        """
        self.assertEqual(self.log.run(body, "ü").decode(), f"{self.log.epoch}-1")
        self.assertEqual(self.log.read(0)[0].event, "made")
        with self.assertRaisesRegex(LogUnusable, "it is there"):
            self.log.run(body, "again")
        with self.assertRaisesRegex(TypeError, "run takes text, bytes and whole numbers for Lua, not dict"):
            self.log.run(body, {"type": "x"})
        for word in ("BUSY", "LOADING", "READONLY", "maxmemory", "WRONGTYPE"):
            with self.assertRaisesRegex(LogUnusable, f"refused: the seat is {word}"):
                self.log.run(f"return redis.error_reply('the seat is {word}')")
        found = self.log.look("return {redis.call('GET', base .. 'mine'), last_event_id()}")
        self.assertEqual([each.decode() for each in found], ["ü", f"{self.log.epoch}-1"])


class HangingTest(RedisCase):
    def test_a_redis_that_hangs_stops_neither_streams_nor_the_end(self):
        hub = Hub(self.url, heartbeat=0.2)
        stream = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        next(stream)
        self.redis.pause()
        try:
            for _ in range(20):
                self.assertIn(b": heartbeat", next(stream))
            with self.assertRaisesRegex(LogUnavailable, "could not be reached"):
                hub.publish("a", "x")
            with self.assertRaises(LogUnavailable):
                hub.health()
            begun = time.monotonic()
            hub.request_close()
            b"".join(stream)
            hub.close()
            self.assertLess(time.monotonic() - begun, 30)
        finally:
            self.redis.go_on()

    def test_a_redis_that_is_busy_is_waited_for(self):
        client = self.client()
        client.config_set("lua-time-limit", 20)
        self.addCleanup(client.config_set, "lua-time-limit", 5000)
        with self.redis.client() as other:
            for patiently in (True, False):
                with self.subTest(patiently=patiently):
                    script = threading.Thread(target=refusal, args=(other.eval, "while true do end", 0))
                    script.start()
                    self.addCleanup(script.join)
                    wait_until(lambda: "BUSY" in refusal(client.exists, "x"), message="Redis is busy")
                    end = threading.Timer(1 if patiently else 60, client.script_kill)
                    end.start()
                    self.addCleanup(end.cancel)
                    if patiently:
                        self.log.append("a", "x")
                    else:
                        with self.assertRaisesRegex(LogUnavailable, "busy with another client's script"):
                            self.log.append("a", "y")
                        client.script_kill()
                    script.join()


class DenialTest(RedisCase):
    flags = ("--requirepass", "s3cret-word")

    def setUp(self):
        pass

    def client(self):
        client = redis.Redis(port=self.redis.port, password="s3cret-word")
        self.addCleanup(client.close)
        return client

    def test_the_password_opens_it_and_is_told_to_nobody(self):
        url = self.redis.url().replace("redis://", "redis://:s3cret-word@")
        with self.assertLogs(level=logging.DEBUG) as logged:
            logging.getLogger("sse_threaded").warning("so that there is a line")
            log = self.open(url)
            log.append("a", "x")
            hub = Hub(url)
            self.addCleanup(hub.close)
            told = f"{log.url} {hub.url} {hub!r} {hub.health()}"
        self.assertNotIn("s3cret-word", told + "\n".join(logged.output))

    def test_a_wrong_password_is_for_a_person_to_mend(self):
        for user in (":wr0ng-word@", "nobody:wr0ng-word@", ""):
            with self.subTest(user=user), self.assertRaises(LogUnusable) as caught:
                open_log(self.redis.url().replace("redis://", f"redis://{user}"))
            self.assertNotIn("wr0ng-word", str(caught.exception))

    def test_a_full_redis_says_so(self):
        url = self.redis.url().replace("redis://", "redis://:s3cret-word@")
        log = self.open(url)
        client = self.client()
        client.config_set("maxmemory", 1)
        self.addCleanup(client.config_set, "maxmemory", 0)
        with self.assertRaisesRegex(LogUnavailable, "maxmemory"):
            log.append("a", "x")
        self.assertEqual(log.last_sequence(), 0)

    def test_a_health_check_tries_what_publishing_needs_and_changes_nothing(self):
        log = self.open(self.redis.url().replace("redis://", "redis://:s3cret-word@"))
        event_id = log.append("a", "x")
        client = self.client()
        keys = set(client.keys())
        offset = client.info("persistence")["rdb_changes_since_last_save"]
        self.assertEqual(log.check(), event_id)
        self.assertEqual(client.info("persistence")["rdb_changes_since_last_save"], offset)
        self.assertLessEqual(set(client.keys()), keys)
        self.addCleanup(client.config_set, "maxmemory", 0)
        self.addCleanup(client.config_set, "min-replicas-to-write", 0)
        for setting, words in (("maxmemory", "maxmemory"), ("min-replicas-to-write", "too few replicas")):
            with self.subTest(setting):
                client.config_set(setting, 1)
                self.assertRaisesRegex(LogUnavailable, words, log.check)
                self.assertEqual(log.last_event_id(), event_id, "reading goes on")
                client.config_set(setting, 0)
                self.assertEqual(log.check(), event_id)

    def test_a_process_that_takes_anothers_place_begins_even_where_it_is_denied(self):
        # Otherwise a worker's death would end the server if the password was changed meanwhile.
        admin = self.client()
        admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">hidden-word", "+@all", "~*")
        url = self.redis.url().replace("redis://", "redis://app:hidden-word@")
        code = """
import os, sys
from sse_threaded import Hub, LogUnusable
for _ in sys.stdin:
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    try:
        hub = Hub(sys.argv[1])
    except LogUnusable:
        print("refused", flush=True)
        os._exit(0)
    try:
        print("published", hub.publish("a", "x"), flush=True)
    except LogUnusable as error:
        print("not published", error, flush=True)
    os._exit(0)
"""
        command = [sys.executable, "-c", code, url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, **pipes) as master:
            self.addCleanup(master.kill)

            def fork():
                master.stdin.write("go\n")
                master.stdin.flush()
                return master.stdout.readline()

            admin.execute_command("ACL", "SETUSER", "app", "off")
            self.assertEqual(fork(), "refused\n")
            admin.execute_command("ACL", "SETUSER", "app", "on")
            self.assertRegex(fork(), "^published")
            admin.execute_command("ACL", "SETUSER", "app", "off")
            self.assertRegex(fork(), "^not published.*it denies this user")
            admin.execute_command("ACL", "SETUSER", "app", "on")
            self.assertRegex(fork(), "^published")
            master.stdin.close()

    def test_of_a_full_redis_can_be_read_and_it_can_be_made_smaller(self):
        url = self.redis.url().replace("redis://", "redis://:s3cret-word@")
        log = self.open(url)
        for number in range(100):
            log.append("a", str(number))
        client = self.client()
        client.config_set("maxmemory", 1)
        self.addCleanup(client.config_set, "maxmemory", 0)
        late = self.open(url, Retention(count=10))
        self.assertEqual(len(late.read(0)), 100)
        self.assertGreater(late.trim(), 80)
        self.assertLess(len(late.read(late.last_sequence() - 10, channels=["a"])), 11)

    def test_a_user_who_lacks_a_right_is_told_which(self):
        client = self.client()
        rights = ["+@all", "-pexpire", "~*"]
        client.execute_command("ACL", "SETUSER", "half", "on", ">hidden-word", *rights)
        url = self.redis.url().replace("redis://", "redis://half:hidden-word@")
        with self.assertRaisesRegex(LogUnusable, "denies this user PEXPIRE") as caught:
            open_log(url)
        self.assertNotIn("hidden-word", str(caught.exception))
        rights = [*RIGHTS, f"~{{{url.partition('prefix=')[2]}}}:*"]
        client.execute_command("ACL", "SETUSER", "half", "reset", "on", ">hidden-word", *rights)
        log = self.open(url)
        self.listen(log)
        log.append("a", "x")
        self.assertEqual(self.come(log, 0, 1), ["x"])
        with log.transaction() as transaction:
            transaction.append("b", "x", "named")
        self.assertEqual(log.trim(), 0)


class UrlTest(unittest.TestCase):
    def test_forms(self):
        for url, expected in {
            "redis://h": ("", False, (("h", 6379),), "", 0),
            f"rediss://u:p%40@h:1/2?ssl_ca_certs={__file__}": ("", True, (("h", 1),), "", 2),
            "redis+sentinel://a,b:1/main/3": ("sentinel", False, (("a", 26379), ("b", 1)), "main", 3),
            "redis+cluster://a:7000,b:7001": ("cluster", False, (("a", 7000), ("b", 7001)), "", 0),
            "redis://[::1]:7": ("", False, (("::1", 7),), "", 0),
        }.items():
            with self.subTest(url=url):
                found = parse_url(url)
                self.assertEqual((found.kind, found.tls, found.hosts, found.service, found.db), expected)
        self.assertEqual(parse_url("rediss://u:p%40@h").secrets, {"username": "u", "password": "p@"})

    def test_what_is_none_is_refused_without_its_secret(self):
        for url in (
            "redis://",
            "redis://h:port",
            "redis://:hidden@h/x",
            "redis://:hidden@h?colour=red",
            "redis://h?prefix=a{b",
            "redis://a,b",
            "redis://h?ssl_ca_certs=x",
            "redis+other://h",
            "redis+sentinel://h",
            "redis+cluster://h/1",
            "redis://:hid/den@h",
            "redis://:hid?den@h/0",
            "redis://:hid#den@h",
            "redis://:hi[dd]en@h",
            "redis://:hidden",
            "redis://[",
            "redis+sentinel://h?sentinel_password=hidden",
            "redis://h/1/2",
            "redis://h:0",
            "redis://h:65536",
            "rediss://h?ssl_ca_certs=/there/is/none",
            "rediss://h?ssl_certfile=/",
            "rediss://h?ssl_cert_reqs=perhaps",
        ):
            with self.subTest(url=url), self.assertRaises(LogUnusable) as caught:
                open_log(url)
            self.assertNotIn("hid", str(caught.exception))

    def test_without_the_driver_it_says_what_to_install(self):
        code = """
import sys

class NotInstalled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "redis":
            raise ModuleNotFoundError("No module named 'redis'", name=name)

sys.meta_path.insert(0, NotInstalled)
from sse_threaded import LogUnusable, open_log
try:
    open_log("redis://:hidden@127.0.0.1:1/0")
except LogUnusable as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("pip install 'redis[hiredis]>=5'", done.stdout)
        self.assertNotIn("hidden", done.stdout)

    def test_an_old_redis_is_refused(self):
        answer = [b"1", b"abcdef", b"6.0.16", b"noeviction", b""]
        old = mock.patch.object(RedisClient, "run", return_value=answer)
        with old, self.assertRaisesRegex(LogUnusable, r"6\.0\.16 is too old"):
            RedisLog("redis://127.0.0.1:1")


class TLSTest(unittest.TestCase):
    def test_over_tls(self):
        folder = temporary_directory(self)
        if shutil.which("openssl") is None:
            missing("openssl (apt-get install openssl)")
        command = ["openssl", "req", "-x509", "-nodes", "-days", "2"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", "key.pem", "-out", "cert.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        port = free_port()
        files = [f"--tls-cert-file {folder}/cert.pem", f"--tls-key-file {folder}/key.pem", "--tls-auth-clients no"]
        flags = [word for line in files for word in line.split()]
        server = RedisServer("--tls-port", str(port), *flags)
        self.addCleanup(server.close)
        log = open_log(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/cert.pem")
        self.addCleanup(log.close)
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        log.append("a", "x")
        self.assertTrue(select.select([doorbell], [], [], 10)[0])
        wait_until(lambda: [r.data for r in log.read(0)] == ["x"])
        with contextlib.suppress(LogUnavailable):
            untrusting = open_log(f"rediss://127.0.0.1:{port}/0")
            self.addCleanup(untrusting.close)
            with self.assertRaisesRegex(LogUnavailable, "certificate"):
                untrusting.append("a", "not trusted")


class ForkTest(RedisCase):
    def test_a_child_has_connections_and_a_listener_of_its_own(self):
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        self.listen(hub.log)
        hub.publish("a", "parent")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                hub.log.open_doorbell()
                hub.publish("a", "child")
                wait_until(lambda: [r.data for r in hub.log.read(0)] == ["parent", "child"])
                status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(self.come(hub.log, 0, 2), ["parent", "child"])


if __name__ == "__main__":
    unittest.main()
