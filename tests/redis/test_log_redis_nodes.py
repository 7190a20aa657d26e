"""A log in several Redis servers: replicas, Sentinels and Clusters, with failovers, moves and outages."""

import contextlib
import unittest
from unittest import mock

import redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from sse_threaded import Hub, LogUnavailable, LogUnusable, open_log
from sse_threaded.log.redis.client import RedisClient
from sse_threaded.log.redis.log import RedisLog
from sse_threaded.log.redis.scripts import GAP
from sse_threaded.log.redis.timeouts import Timeouts
from sse_threaded.testing import LiveServer
from tests.harness.redis_server import RedisServer
from tests.support import free_port, temporary_directory, wait_until

ONCE = True  # the servers decide, and test_log_redis.py runs under every Python

SLOTS = 16384


def number_of(event_id):
    return int(event_id.partition("-")[2])


class FailoverTest(unittest.TestCase):
    def setUp(self):
        self.master = RedisServer()
        self.addCleanup(self.master.close)
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.master.port))
        self.addCleanup(self.replica.close)
        self.in_step(self.replica)
        folder = temporary_directory(self)
        self.port = free_port()
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        self.sentinel = RedisServer(port=self.port, sentinel=str(folder / "sentinel.conf"))
        self.addCleanup(self.sentinel.close)
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/main/0"

    def in_step(self, replica):
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", timeout=20)

    def test_a_replica_takes_over_and_all_goes_on(self):
        with self.sentinel.client() as client:
            knows = "the sentinel knows the replica"
            wait_until(lambda: client.sentinel_slaves("main"), timeout=30, message=knows)
        log = open_log(self.url)
        self.addCleanup(log.close)
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        first = log.append("a", "one")
        with self.replica.client() as client:
            wait_until(lambda: client.dbsize() > 2)
        self.master.kill()

        def append():
            try:
                return log.append("a", "two")
            except LogUnavailable:
                return None

        found = []
        wait_until(lambda: found.append(append()) or found[-1], timeout=60, message="the replica takes over")
        self.assertGreater(number_of(found[-1]), GAP)
        self.assertEqual([r.data for r in log.read(log.sequence_of(first), channels=["a"])], ["two"])
        wait_until(lambda: doorbell.clear() or self.data_after(log, 1) == ["two"], timeout=20)

    def data_after(self, log, after):
        try:
            return [record.data for record in log.read(after)]
        except LogUnavailable:
            return None

    def test_after_a_planned_failover_the_old_master_is_left_soon(self):
        with self.sentinel.client() as client:
            knows = "the sentinel knows the replica"
            wait_until(lambda: client.sentinel_slaves("main"), timeout=30, message=knows)
            log = open_log(self.url)
            self.addCleanup(log.close)
            look = RedisClient.find_new_master
            with mock.patch.object(RedisClient, "find_new_master", autospec=True, side_effect=look) as looks:
                self.addCleanup(log.open_doorbell().close)
                log.append("a", "one")
                wait_until(lambda: looks.call_count >= 2, timeout=30, message="the first look to be over")
            # The Sentinel promotes only a replica that has answered it lately.
            wait_until(lambda: self.fails_over(client), timeout=30, message="the sentinel promotes the replica")
            new = self.replica.port
            wait_until(lambda: client.sentinel_get_master_addr_by_name("main")[1] == new, timeout=30)
        # Until the Sentinel makes it a replica, the old master would take events and lose them.
        wait_until(lambda: self.is_on(new, log), timeout=60, message="the log uses the new master")

    def fails_over(self, sentinel):
        try:
            return sentinel.execute_command("SENTINEL", "FAILOVER", "main")
        except ResponseError as error:
            if "NOGOODSLAVE" not in str(error):
                raise
            return False

    def is_on(self, port, log):
        try:
            number = number_of(log.append("a", "x"))
        except LogUnavailable:
            return False
        with redis.Redis(port=port) as client:
            return int(client.hget("{sse_threaded}:meta", "last") or 0) == number

    def test_of_a_replica_can_be_read(self):
        log = open_log(self.master.url(prefix="p"))
        self.addCleanup(log.close)
        log.append("a", "one")
        self.in_step(self.replica)
        with self.replica.client() as client:
            wait_until(lambda: client.exists("{p}:meta"), message="the replica has it")
        reader = open_log(self.replica.url(prefix="p"))
        self.addCleanup(reader.close)
        wait_until(lambda: [r.data for r in reader.read(0)] == ["one"])
        with self.assertRaisesRegex(LogUnavailable, "is a replica; name its master"):
            reader.append("a", "two")


class ClusterCase(unittest.TestCase):
    masters = 1

    def setUp(self):
        self.nodes = []
        first_bus = None
        for _ in range(self.masters):
            flags = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
            bus = free_port()  # on this one it talks with the other nodes
            first_bus = first_bus or bus
            node = RedisServer(*flags, "--cluster-node-timeout", "2000", "--cluster-port", str(bus))
            self.addCleanup(node.close)
            self.nodes.append(node)
        share = SLOTS // self.masters
        for number, node in enumerate(self.nodes):
            last = SLOTS if node is self.nodes[-1] else (number + 1) * share
            self.tell(node, "CLUSTER", "ADDSLOTS", *range(number * share, last))
            self.tell(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.tell(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, first_bus)
        for node in self.nodes:
            wait_until(lambda node=node: self.is_whole(node), timeout=60, message="the cluster is whole")

    def tell(self, node, *words):
        with node.client() as client:
            return client.execute_command(*words)

    def is_whole(self, node):
        info = self.tell(node, "CLUSTER INFO")
        return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS)

    def open(self, timeouts=None):
        log = RedisLog(f"redis+cluster://127.0.0.1:{self.nodes[0].port}", timeouts=timeouts)
        self.addCleanup(log.close)
        return log

    def listen(self, log):
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        wait_until(lambda: log.listener.buffer.place[1] is not None, timeout=30, message="the listener has begun")

    def come(self, log, after, expected):
        def read():
            with contextlib.suppress(LogUnavailable):
                return [record.data for record in log.read(after)] == expected

        wait_until(read, timeout=60, message=f"{expected} after {after}")


class ClusterTest(ClusterCase):
    def test_all_keys_are_in_one_slot(self):
        log = self.open()
        self.listen(log)
        log.append("a", "one")
        with log.transaction() as transaction:
            transaction.append("b", "two")
        self.come(log, 0, ["one", "two"])
        self.assertEqual([r.data for r in log.read(0, channels=["b"])], ["two"])

    def test_one_that_is_away_is_waited_for(self):
        hub = Hub(f"redis+cluster://127.0.0.1:{self.nodes[0].port}")
        self.addCleanup(hub.close)
        stream = iter(hub.stream({"REQUEST_METHOD": "GET"}, "a").response)
        self.addCleanup(stream.close)
        next(stream)
        self.nodes[0].kill()
        with self.assertRaisesRegex(LogUnavailable, "could not be reached for 5 s"):
            hub.publish("a", "x")
        self.assertRaises(LogUnavailable, hub.health)
        self.assertRaises(LogUnavailable, open_log(hub.url).last_sequence)


class ClusterOfTwoTest(ClusterCase):
    masters = 2

    def setUp(self):
        super().setUp()
        self.slot = key_slot(b"sse_threaded")
        self.owner = self.nodes[self.slot * 2 // SLOTS]
        (self.other,) = {*self.nodes} - {self.owner}

    def test_a_node_that_has_nothing_of_the_log_may_hang_or_be_gone(self):
        log = self.open()
        self.listen(log)
        log.append("a", "one")
        self.come(log, 0, ["one"])
        self.other.pause()
        try:
            log.append("a", "two")
            self.come(log, 1, ["two"])
        finally:
            self.other.go_on()
        self.other.kill()
        self.tell(self.owner, "SCRIPT", "FLUSH")
        log.append("a", "three")
        self.come(log, 2, ["three"])

    def test_while_it_is_moved_nothing_is_done_by_halves(self):
        log = self.open()
        self.listen(log)
        for number in range(20):
            log.append("ab"[number % 2], str(number))
        impatient = self.open(Timeouts(retry=0.2))
        impatient.last_sequence()
        ids = {node: self.tell(node, "CLUSTER", "MYID") for node in self.nodes}
        self.tell(self.other, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", ids[self.owner])
        self.tell(self.owner, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", ids[self.other])
        keys = self.tell(self.owner, "CLUSTER", "GETKEYSINSLOT", self.slot, 100)
        keys.sort(key=lambda key: not key.endswith(b":meta"))  # the scripts look at it first
        for key in keys:
            with self.subTest(next=key):
                self.assertRaises(LogUnavailable, impatient.append, "a", "refused")
                self.assertRaises(LogUnavailable, impatient.read, 0, channels=["a"])
            moved = self.tell(self.owner, "MIGRATE", "127.0.0.1", self.other.port, key, 0, 5000)
            self.assertEqual(moved, b"OK")
        self.assertRaises(LogUnavailable, impatient.append, "a", "refused")
        for node in self.nodes:
            self.tell(node, "CLUSTER", "SETSLOT", self.slot, "NODE", ids[self.other])
        wait_until(lambda: self.appended(log), timeout=60, message="the log has moved")
        found = [record.data for record in log.read(0, channels=["a", "b"])]
        self.assertEqual(found, [*map(str, range(20)), "after"])
        self.come(log, 20, ["after"])

    def appended(self, log):
        with contextlib.suppress(LogUnavailable):
            return log.append("a", "after")


class NoClusterTest(unittest.TestCase):
    def test_what_is_no_cluster_is_told(self):
        server = RedisServer()
        self.addCleanup(server.close)
        with self.assertRaisesRegex(LogUnusable, "it is no Cluster; write redis://"):
            open_log(server.url("redis+cluster"))

    def test_what_is_no_redis_is_told(self):
        with LiveServer(lambda environ, start_response: []) as server:
            for scheme in ("redis", "redis+cluster"):
                with self.subTest(scheme), self.assertRaisesRegex(LogUnusable, "is not Redis"):
                    open_log(f"{scheme}://127.0.0.1:{server.port}")
