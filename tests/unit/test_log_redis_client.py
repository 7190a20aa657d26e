"""The client of a log in Redis, over a driver made by hand: how often it tries, and what errors say."""

from __future__ import annotations

import hashlib
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from redis import exceptions

from sse_threaded.errors import HistoryGone, LogUnavailable, LogUnusable
from sse_threaded.log.record import Record
from sse_threaded.log.redis.client import RedisClient, SharedClient
from sse_threaded.log.redis.driver import connect
from sse_threaded.log.redis.errors import ErrorTranslator, Unreachable, is_passing
from sse_threaded.log.redis.event_buffer import EventBuffer
from sse_threaded.log.redis.gaps import Gaps
from sse_threaded.log.redis.scripts import LOCK_LOST, LOCKED, NEW_EPOCH
from sse_threaded.log.redis.timeouts import Timeouts
from sse_threaded.log.redis.url import parse_url
from sse_threaded.log.url import without_secret

URL = "redis://user:secret@host:6379/3?prefix=mine"
AWAY = exceptions.ConnectionError("Connection refused.")
LOCKED_ERROR = exceptions.ResponseError(f"{LOCKED} script: abc")


class Clock:
    """The time, which goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(round(seconds, 6))
        self.now += seconds


class ClientCase(unittest.TestCase):
    kind: Callable[..., RedisClient] = RedisClient

    def setUp(self) -> None:
        self.driver = mock.Mock()
        self.clock = Clock()
        for name, value in (
            ("redis.client.connect", mock.Mock(return_value=self.driver)),
            ("redis.client.time", self.clock),
            ("reachability.time", self.clock),
            # In the middle of what is drawn at random.
            ("redis.client.secrets", mock.Mock(randbelow=lambda bound: bound // 2)),
        ):
            patch = mock.patch(f"sse_threaded.log.{name}", value)
            patch.start()
            self.addCleanup(patch.stop)
        self.client = self.kind(parse_url(URL), "name", Timeouts(answer=2.0, retry=5.0, forget=2.0))

    def answers(self, *answers: object) -> None:
        self.driver.evalsha.side_effect = answers

    @property
    def tries(self) -> int:
        return int(self.driver.evalsha.call_count)


class RunTest(ClientCase):
    def test_a_script_runs_by_its_digest_and_is_sent_where_redis_does_not_know_it(self) -> None:
        digest = hashlib.sha1(b"return 1", usedforsecurity=False).hexdigest()
        keys = ("{mine}:meta", "{mine}:none")
        self.answers(7, exceptions.NoScriptError("no"))
        self.driver.eval.return_value = 8
        self.assertEqual(self.client.run("return 1", ["a", 2]), 7)
        self.driver.evalsha.assert_called_once_with(digest, 2, *keys, "a", 2)
        self.assertEqual(self.client.run("return 1", ["a", 2]), 8)
        self.driver.eval.assert_called_once_with("return 1", 2, *keys, "a", 2)

    def test_without_time_to_try_again_it_tries_once(self) -> None:
        self.answers(AWAY)
        with self.assertRaises(Unreachable) as caught:
            self.client.run("x", [])
        self.assertEqual(caught.exception.reason, "Redis could not be reached (Connection refused); try again")
        self.assertIs(caught.exception.__cause__, AWAY)
        self.assertEqual((self.tries, self.clock.sleeps), (1, []))

    def test_while_redis_is_away_it_tries_again_less_and_less_often(self) -> None:
        self.answers(*[AWAY] * 50)
        with self.assertRaisesRegex(Unreachable, "could not be reached for 5 s"):
            self.client.run("x", [], retry_for=5.0)
        self.assertEqual(self.clock.sleeps[:7], [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5])
        self.assertEqual(set(self.clock.sleeps[5:]), {0.5})
        self.assertTrue(4.4 < sum(self.clock.sleeps) <= 5.0, self.clock.sleeps)
        self.assertEqual(self.tries, len(self.clock.sleeps) + 1)

    def test_the_last_try_is_at_the_end_of_its_time(self) -> None:
        for seconds, sleeps in ((0.06, [0.02, 0.04]), (0.059, [0.02])):
            with self.subTest(seconds):
                self.clock.now, self.clock.sleeps = 0.0, []
                self.answers(*[AWAY] * 9)
                self.assertRaises(Unreachable, self.client.run, "x", [], seconds)
                self.assertEqual(self.clock.sleeps, sleeps)

    def test_for_a_lock_it_waits_always_as_long(self) -> None:
        self.answers(*[LOCKED_ERROR] * 9, b"done")
        self.assertEqual(self.client.run("x", [], retry_for=5.0), b"done")
        self.assertEqual(self.clock.sleeps, [0.02] * 9)
        self.answers(*[LOCKED_ERROR] * 900)
        with self.assertRaisesRegex(LogUnavailable, "locked by another writer for 5 s; try again"):
            self.client.run("x", [], retry_for=5.0)

    def test_what_does_not_pass_is_raised_at_once(self) -> None:
        for error, kind in (
            (exceptions.ResponseError("OOM command not allowed"), LogUnavailable),
            (exceptions.NoPermissionError("NOPERM"), LogUnusable),
            (exceptions.ResponseError(f"{NEW_EPOCH} script"), exceptions.ResponseError),
        ):
            with self.subTest(error):
                self.driver.evalsha.reset_mock()
                self.answers(error, b"late")
                self.assertRaises(kind, self.client.run, "x", [], 5.0)
                self.assertEqual((self.tries, self.clock.sleeps), (1, []))

    def test_a_replica_is_left_for_the_master(self) -> None:
        self.answers(exceptions.ReadOnlyError("READONLY"), b"done")
        self.assertEqual(self.client.run("x", [], 5.0), b"done")
        self.driver.connection_pool.disconnect.assert_called_once_with(inuse_connections=False)
        self.driver.connection_pool.disconnect.reset_mock()
        self.answers(AWAY, b"done")
        self.client.run("x", [], 5.0)
        self.driver.connection_pool.disconnect.assert_not_called()


class ConnectionsTest(ClientCase):
    def test_they_are_closed_once_and_made_again_when_needed(self) -> None:
        self.client.close()
        self.driver.close.assert_not_called()
        self.assertIs(self.client.driver(), self.driver)
        self.client.close()
        self.client.close()
        self.driver.close.assert_called_once_with()
        self.assertIs(self.client.driver(), self.driver)

    def test_a_child_leaves_those_of_its_parent_alone(self) -> None:
        self.client.driver()
        self.client.after_fork_in_child()
        self.client.close()
        self.driver.close.assert_not_called()

    def test_entries_are_waited_for_as_long_as_it_says(self) -> None:
        self.driver.execute_command.side_effect = [[["feed", ["entry"]]], None]
        self.assertEqual(self.client.entries_after("feed", "7-0", 16, 1000), ["entry"])
        self.driver.execute_command.assert_called_with(
            "XREAD", "COUNT", 16, "BLOCK", 1000, "STREAMS", "feed", "7-0"
        )
        self.assertEqual(self.client.entries_after("feed", "7-0", 16, None), [])
        self.driver.execute_command.assert_called_with("XREAD", "COUNT", 16, "STREAMS", "feed", "7-0")

    def test_a_cluster_reads_from_the_node_that_has_the_stream(self) -> None:
        client = RedisClient(parse_url("redis+cluster://host"), "name")
        self.driver.execute_command.return_value = None
        client.entries_after("feed", "7-0", 16, None)
        self.driver.get_node_from_key.assert_called_once_with("feed")
        options = self.driver.execute_command.call_args.kwargs
        self.assertEqual(options, {"target_nodes": self.driver.get_node_from_key.return_value})

    def test_only_sentinels_know_of_a_new_master_and_the_first_is_not_new(self) -> None:
        self.assertFalse(self.client.find_new_master())
        client = RedisClient(parse_url("redis+sentinel://host/service"), "name")
        pool = self.driver.connection_pool
        pool.sentinel_manager.discover_master.side_effect = ["a", "a", "b", "b"]
        found = [client.find_new_master() for _ in range(4)]
        self.assertEqual(found, [False, False, True, False])
        pool.disconnect.assert_called_once_with(inuse_connections=False)
        self.assertEqual(pool.sentinel_manager.discover_master.call_args, mock.call(pool.service_name))


class SharedTest(ClientCase):
    kind = SharedClient
    client: SharedClient

    def fail(self, retry_for: float = 0.0) -> None:  # type: ignore[override]
        with self.assertRaises(Unreachable):
            self.client.run("x", [], retry_for)

    def test_all_callers_together_try_for_as_long_as_one(self) -> None:
        self.answers(*[AWAY] * 90)
        self.fail()
        self.fail(5.0)
        self.clock.now += 1.0
        self.driver.evalsha.reset_mock()
        self.fail(5.0)
        self.assertEqual(self.tries, 1, "its time was over long ago")

    def test_a_caller_has_the_rest_of_the_time(self) -> None:
        self.answers(*[AWAY] * 90)
        self.fail()
        self.clock.now += 1.0
        before = self.clock.now
        self.fail(5.0)
        self.assertTrue(3.4 < self.clock.now - before <= 4.0, self.clock.now - before)

    def test_a_failure_is_forgotten_after_a_while(self) -> None:
        for later, tries_again in ((2.0, False), (2.1, True)):
            with self.subTest(later):
                self.client.note_answer()
                self.answers(*[AWAY] * 90)
                self.fail()
                self.clock.now += later
                self.client._reachability._away_since = self.clock.now - 100  # its time is over
                self.clock.sleeps.clear()
                self.fail(5.0)
                self.assertEqual(bool(self.clock.sleeps), tries_again)

    def test_one_thread_finds_out_whether_redis_is_back_and_others_fail_at_once(self) -> None:
        others: list[str] = []

        def answer(*arguments: object) -> object:
            with self.assertRaises(LogUnavailable) as caught:
                self.client.run("y", [])
            others.append(caught.exception.reason)
            raise AWAY

        self.answers(AWAY)
        self.fail()
        self.driver.evalsha.side_effect = answer
        for _ in range(2):
            self.fail()
        self.assertEqual(others, ["Redis does not answer; another thread is trying"] * 2)
        self.answers(b"back", b"again")
        self.assertEqual(self.client.run("x", []), b"back")
        self.driver.evalsha.side_effect = lambda *arguments: self.tries
        self.assertEqual(self.client.run("x", []), self.tries)

    def test_a_refusal_is_an_answer(self) -> None:
        for error, kind in (
            (exceptions.ResponseError("OOM command not allowed"), LogUnavailable),
            (exceptions.ResponseError(f"{NEW_EPOCH} script"), exceptions.ResponseError),
        ):
            with self.subTest(error):
                self.answers(AWAY, error, *[AWAY] * 90)
                self.fail()
                self.assertRaises(kind, self.client.run, "x", [])
                self.clock.sleeps.clear()
                self.fail(5.0)
                self.assertGreater(sum(self.clock.sleeps), 4.4)
                self.client.note_answer()

    def test_an_answer_gives_the_next_failure_its_whole_time(self) -> None:
        for answered in (lambda: self.client.run("x", []), self.client.note_answer):
            self.answers(AWAY, b"back", *[AWAY] * 90) if answered != self.client.note_answer else self.answers(
                *[AWAY] * 90
            )
            self.fail()
            self.clock.now += 1.0
            answered()
            before = self.clock.now
            self.fail(5.0)
            self.assertGreater(self.clock.now - before, 4.4)
            self.client.note_answer()

    def test_a_child_knows_of_no_failure(self) -> None:
        self.answers(*[AWAY] * 90)
        self.fail(5.0)
        with self.client._reachability._trying:
            self.client.after_fork_in_child()
            self.clock.sleeps.clear()
            self.fail(5.0)
        self.assertGreater(sum(self.clock.sleeps), 4.4)


class ErrorsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.translator = ErrorTranslator(parse_url(URL))

    def test_each_error_says_what_to_do(self) -> None:
        response = exceptions.ResponseError
        for error, kind, words in (
            (response("OOM command not allowed"), LogUnavailable, "maxmemory"),
            (exceptions.OutOfMemoryError("command not allowed"), LogUnavailable, "maxmemory"),
            (response("MISCONF Redis is configured to save"), LogUnavailable, "cannot write to its disk"),
            (response("NOREPLICAS Not enough"), LogUnavailable, "too few replicas"),
            (response("READONLY You can't write"), LogUnavailable, "is a replica"),
            (exceptions.ReadOnlyError("You can't write"), LogUnavailable, "is a replica"),
            (exceptions.BusyLoadingError("Redis is loading"), LogUnavailable, "loading its data"),
            (response("BUSY Redis is busy"), LogUnavailable, "SCRIPT KILL"),
            (exceptions.TryAgainError("Multiple keys"), LogUnavailable, "moving the log"),
            (response("ERR user_script:7: -OOM command"), LogUnavailable, "maxmemory"),
            (response("WRONGTYPE Operation against"), LogUnusable, "another program"),
            (response("ERR This instance has cluster mode is not enabled"), LogUnusable, "no Cluster"),
            (response("unknown command 'AUTH', with args beginning with: 'secret'"), LogUnusable, "no password"),
            (response("unknown command `AUTH`, with args beginning with: `secret`"), LogUnusable, "no password"),
            (exceptions.InvalidResponse("Protocol Error: b'HTTP'"), LogUnusable, "is not Redis"),
            (exceptions.AuthenticationError("WRONGPASS"), LogUnusable, "denies this user"),
            (exceptions.AuthorizationError("x"), LogUnusable, "denies this user"),
            (exceptions.NoPermissionError("NOPERM"), LogUnusable, "denies this user"),
            (exceptions.TimeoutError("Timeout reading"), Unreachable, r"\(Timeout reading\); try again"),
            (exceptions.ConnectionError(""), Unreachable, r"\(ConnectionError\); try again"),
            (OSError("cut..."), Unreachable, r"could not be reached \(cut\); try again"),
            (response("ERR something of secret else"), LogUnusable, r"refused: ERR something of \.\.\. else"),
        ):
            with self.subTest(error):
                found = self.translator.translate(error)
                self.assertIs(type(found), kind)
                self.assertRegex(str(found), words)
                self.assertNotIn("secret", str(found))
                self.assertIn("redis://host:6379/3", str(found))

    def test_how_long_it_was_tried_is_told_from_half_a_second_on(self) -> None:
        for seconds, words in (
            (0.0, "reached ("),
            (0.49, "reached ("),
            (0.5, "reached for 0 s ("),
            (5.0, "for 5 s ("),
        ):
            with self.subTest(seconds):
                self.assertIn(words, str(self.translator.translate(AWAY, seconds)))

    def test_errors_of_other_kinds_and_refusals_of_scripts_are_returned_as_they_are(self) -> None:
        for error in (
            ValueError("x"),
            exceptions.ResponseError(f"{NEW_EPOCH} x"),
            exceptions.ResponseError(f"{LOCK_LOST} x"),
        ):
            self.assertIs(self.translator.translate(error), error)

    def test_a_cause_with_a_password_in_it_is_not_shown(self) -> None:
        error = exceptions.ResponseError("of secret")
        self.assertIsNone(self.translator.cause(error))
        self.assertIsNone(self.translator.cause(exceptions.ResponseError("x, with args beginning with: y")))
        self.assertIs(self.translator.cause(AWAY), AWAY)

    def test_an_address_without_a_password_hides_no_words(self) -> None:
        translator = ErrorTranslator(parse_url("redis://:@host"))
        self.assertIn("something else", str(translator.translate(exceptions.ResponseError("something else"))))

    def test_which_pass_by_themselves(self) -> None:
        response = exceptions.ResponseError
        for error, passes in (
            (AWAY, True),
            (exceptions.TimeoutError("x"), True),
            (OSError("x"), True),
            (LOCKED_ERROR, True),
            (response("NOREPLICAS x"), True),
            (response("READONLY x"), True),
            (exceptions.BusyLoadingError("x"), True),
            (response("BUSY x"), True),
            (exceptions.TryAgainError("x"), True),
            (exceptions.AuthenticationError("x"), False),
            (response("OOM x"), False),
            (response("MISCONF x"), False),
            (response("ERR x"), False),
            (exceptions.DataError("BUSY x"), False),
        ):
            with self.subTest(error):
                self.assertEqual(is_passing(error), passes)


class AddressTest(unittest.TestCase):
    def connected(self, url: str, name: str) -> Any:
        with mock.patch(f"sse_threaded.log.redis.driver.{name}") as made:
            self.made = connect(parse_url(url), "name", 2.5)
        return made

    def test_of_one_server(self) -> None:
        for url, expected in (
            ("redis://host", {"host": "host", "port": 6379, "db": 0}),
            ("redis://u:p%40@host:7/2", {"host": "host", "port": 7, "db": 2, "username": "u", "password": "p@"}),
            ("redis://:p@[::1]:7", {"host": "::1", "port": 7, "db": 0, "password": "p"}),
            ("rediss://host", {"host": "host", "port": 6379, "db": 0, "ssl": True}),
            (
                "rediss://h?ssl_check_hostname=No",
                {"host": "h", "port": 6379, "db": 0, "ssl": True, "check": False},
            ),
            ("rediss://h?ssl_check_hostname=1", {"host": "h", "port": 6379, "db": 0, "ssl": True, "check": True}),
        ):
            with self.subTest(url):
                options = self.connected(url, "Redis").call_args.kwargs
                retry = options.pop("retry")
                self.assertEqual(retry._retries, 0)
                times = {"socket_timeout": 2.5, "socket_connect_timeout": 2.5}
                if "check" in expected:
                    expected["ssl_check_hostname"] = expected.pop("check")
                self.assertEqual(options, {**expected, **times, "client_name": "name", "protocol": 2})

    def test_of_sentinels(self) -> None:
        url = "rediss+sentinel://u:p@one,two:7/service/4?sentinel_username=su&sentinel_password=sp"
        made = self.connected(url + "&ssl_cert_reqs=none", "Sentinel")
        hosts, options = made.call_args.args[0], made.call_args.kwargs
        self.assertEqual(hosts, (("one", 26379), ("two", 7)))
        self.assertEqual((options["db"], options["username"], options["password"]), (4, "u", "p"))
        self.assertNotIn("sentinel_username", options)
        self.assertEqual(
            options["sentinel_kwargs"],
            {
                "socket_timeout": 2.5,
                "socket_connect_timeout": 2.5,
                "username": "su",
                "password": "sp",
                "ssl": True,
                "ssl_cert_reqs": "none",
            },
        )
        made.return_value.master_for.assert_called_once_with("service")
        self.assertIs(self.made, made.return_value.master_for.return_value)
        made = self.connected("redis+sentinel://one/service", "Sentinel")
        times = {"socket_timeout": 2.5, "socket_connect_timeout": 2.5}
        self.assertEqual(made.call_args.kwargs["sentinel_kwargs"], times)
        self.assertNotIn("ssl", made.call_args.kwargs)

    def test_of_a_cluster(self) -> None:
        made = self.connected("redis+cluster://one:7,two", "RedisCluster")
        nodes = [(node.host, node.port) for node in made.call_args.kwargs["startup_nodes"]]
        self.assertEqual([port for _, port in nodes], [7, 6379])
        self.assertNotIn("db", made.call_args.kwargs)

    def test_ports_services_and_databases_have_their_bounds(self) -> None:
        for url in (
            "redis://host:1",
            "redis://host:65535",
            "redis://host/9999",
            "redis+sentinel://h/service/0",
            "redis+cluster://h/0",
            "redis://h?prefix=" + "p" * 64,
        ):
            with self.subTest(url):
                parse_url(url)
        for url in (
            "redis://host:0",
            "redis://host:65536",
            "redis://host/10000",
            "redis://host/x",
            "redis://host/1/2",
            "redis+sentinel://h",
            "redis+sentinel://h/service/0/1",
            "redis+cluster://h/1",
            "redis://one,two",
            "redis://h?prefix=" + "p" * 65,
            "redis://h?prefix=",
            "redis://h?ssl_cert_reqs=none",
            "rediss://h?ssl_cert_reqs=never",
            "rediss://h?ssl_ca_certs=/nowhere",
            "redis+other://h",
            "http://h",
            "redis://h#x",
        ):
            with self.subTest(url):
                self.assertRaises(LogUnusable, parse_url, url)

    def test_what_is_shown_of_a_url(self) -> None:
        for url, shown in (
            ("redis://u:p@host:6379/0", "redis://host:6379/0"),
            ("redis://host:6379/0?prefix=x", "redis://host:6379/0"),
            ("redis://host/service", "redis://..."),
            ("redis+sentinel://one,two:7/service/1", "redis+sentinel://one,two:7/service/1"),
            ("redis+sentinel://u:p@one/service", "redis+sentinel://one/service"),
            ("redis+cluster://one,two", "redis+cluster://one,two"),
            ("redis://u:p/q@host", "redis://..."),
            ("redis://u:p#q@host", "redis://..."),
            ("redis://host?prefix=a@b", "redis://..."),
            ("redis://secret and more", "redis://..."),
            ("sqlite:///x.db", "sqlite:///x.db"),
            ("sqlite:///x.db?synchronous=full", "sqlite:///x.db?synchronous=full"),
            ("sqlite:///x.db?synchronous=normal", "sqlite:///x.db?synchronous=normal"),
            ("sqlite:///x.db?key=secret", "sqlite:///x.db"),
            ("sqlite:///u:p@host/x.db", "sqlite:///..."),
            ("sqlite:///a\nb\x7f.db", "sqlite:///a%0Ab%7F.db"),
            ("memory://", "memory://"),
            ("memory://x", "memory://..."),
            ("events.db", "events.db"),
            ("postgres://u:p@host/db", "postgres://host/db"),
            ("mysql://u:p@host/db", "mysql://..."),
            ("u:p@host", "..."),
            ("se cret://x", "..."),
            ("pass+word", "..."),
        ):
            with self.subTest(url):
                self.assertEqual(without_secret(url), shown)


class BufferBoundsTest(unittest.TestCase):
    def make_buffer(self, last: int = 0, gaps: bytes = b"", **options: int) -> EventBuffer:
        buffer = EventBuffer(**options)
        buffer.renew("abcdef")
        buffer.update("abcdef", last, Gaps(gaps), idle=False)
        return buffer

    def add(self, buffer: EventBuffer, *numbers: int, data: str = "x") -> bool:
        return buffer.add("abcdef", [Record(number, "a", None, data) for number in numbers])

    def test_it_keeps_2000_events_and_of_more_the_newer_half(self) -> None:
        buffer = self.make_buffer()
        self.add(buffer, *range(1, 2001))
        self.assertIsNotNone(buffer.page(0))
        self.add(buffer, 2001)
        self.assertIsNone(buffer.page(999))
        self.assertIsNotNone(buffer.page(1000))
        self.assertIn("start=1000 end=2001 events=1001", repr(buffer))

    def test_it_keeps_8_megabytes(self) -> None:
        buffer = self.make_buffer()
        self.add(buffer, *range(1, 9), data="x" * 1024 * 1024)
        self.assertIsNotNone(buffer.page(0))
        self.add(buffer, 9, data="x")
        self.assertIsNone(buffer.page(3))
        self.assertIsNotNone(buffer.page(4))
        for number in range(10, 13):
            self.add(buffer, number, data="x" * 1024 * 1024)
        self.assertIsNotNone(buffer.page(4), "what was dropped counts no more")

    def test_one_event_is_kept_however_long_it_is(self) -> None:
        buffer = self.make_buffer()
        self.add(buffer, 1, data="x" * 9 * 1024 * 1024)
        page = buffer.page(0)
        assert page is not None
        self.assertEqual([record.sequence for record in page], [1])

    def test_a_place_at_its_end_is_here_and_one_beyond_is_not(self) -> None:
        buffer = self.make_buffer(5)
        self.assertEqual(buffer.page(5), [])
        self.assertRaises(HistoryGone, buffer.page, 6)
        buffer.expect(7)
        buffer.expect(6)
        self.assertEqual(buffer.page(7), [])
        self.assertRaises(HistoryGone, buffer.page, 8)

    def test_a_feed_that_is_not_behind_is_not_begun_again(self) -> None:
        buffer = self.make_buffer(5)
        self.add(buffer, 6)
        for idle in (False, True, True):
            self.assertTrue(buffer.update("abcdef", 6, Gaps(), idle=idle))
        self.assertEqual(buffer.place, ("abcdef", 6))
        self.assertIsNotNone(buffer.page(5))
        self.assertTrue(buffer.update("abcdef", 8, Gaps(), idle=False))
        self.assertTrue(buffer.update("abcdef", 8, Gaps(), idle=False))
        self.assertEqual(buffer.place, ("abcdef", 6), "no look was idle")

    def test_a_place_inside_a_gap_is_begun_again(self) -> None:
        buffer = self.make_buffer(5)
        buffer.update("abcdef", 9, Gaps(b"3:9"), idle=False)
        self.assertEqual(buffer.place, ("abcdef", 9))

    def test_with_another_epoch_nothing_of_the_old_one_is_left(self) -> None:
        buffer = self.make_buffer(5, b"5:100")
        self.add(buffer, 101)
        buffer.expect(200)
        buffer.renew("ghijkl")
        self.assertEqual(buffer.place, ("ghijkl", None))
        self.assertEqual(buffer.page(1000), [])
        self.assertFalse(buffer.is_lost(50))
        buffer.update("ghijkl", 7, Gaps(), idle=True)
        self.assertEqual(buffer.place, ("ghijkl", 7))
        self.assertRaises(HistoryGone, buffer.page, 8)


if __name__ == "__main__":
    unittest.main()
