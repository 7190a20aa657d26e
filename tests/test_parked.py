"""Many parked clients in one go: each gets every byte once and in order, whatever its socket takes."""

import socket
import unittest

from sse_threaded.fanout import Fanout
from sse_threaded.frame import Frame
from sse_threaded.log import MemoryLog, Record
from sse_threaded.parked import Parked, Volley


class VolleyTest(unittest.TestCase):
    def setUp(self):
        self.log = MemoryLog()
        self.addCleanup(self.log.close)
        self.fanout = Fanout(self.log)
        self.position = 0

    def client(self, *, chunked=True, send_buffer=None):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        theirs.settimeout(10)
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        parked = Parked(["a"], 100, ours, chunked=chunked, cursor=None, finished=lambda: None)
        self.fanout.add(parked, self.position)
        return parked, theirs

    def publish(self, data):
        """One event to all, as the pump does it; returns who needs looking after."""
        self.position += 1
        touched = []
        for frame, volley, others in self.fanout.deliveries([Record(self.position, "a", None, data)]):
            touched += volley.send(frame)
            touched += [each for each in others if each.put(frame)]
        return touched

    def wire(self, data):
        return f"id: {self.log.event_id(self.position)}\ndata: {data}\n\n".encode()

    def test_all_get_it_and_it_is_counted(self):
        clients = [self.client() for _ in range(20)]
        expected = b""
        for number in range(5):
            self.assertEqual(self.publish(f"event {number}"), [])
            wire = self.wire(f"event {number}")
            expected += b"%x\r\n%b\r\n" % (len(wire), wire)
        for parked, theirs in clients:
            self.assertEqual(theirs.recv(65536), expected)
            self.fanout.remove(parked)
            self.assertEqual(parked.sent, sum(map(len, (wire,) * 5)))

    def test_who_takes_a_part_gets_the_rest_later_and_nothing_in_between(self):
        (slow, theirs), (quick, other) = self.client(send_buffer=4096), self.client()
        self.publish("before")
        large = "x" * 20_000
        self.assertEqual(self.publish(large), [slow])
        self.assertTrue(slow.blocked)
        self.assertEqual(slow.sent, quick.sent - len(self.wire(large)))
        self.assertEqual(self.publish("after"), [slow])
        slow.put_heartbeat(Frame(b":\n\n", 0))
        received = b""
        while slow.blocked:
            received += theirs.recv(65536)
            slow.flush()
        received += theirs.recv(65536)
        self.assertEqual(self.publish("and on"), [])
        received += theirs.recv(65536)
        self.assertEqual(received, read_exactly(other, len(received)))
        for client in (slow, quick):
            self.fanout.remove(client)
        self.assertEqual(slow.sent, quick.sent)
        self.assertEqual(received.count(b"data: "), 4)

    def test_who_is_gone_is_told_apart_and_the_others_get_it(self):
        clients = [self.client() for _ in range(9)]
        for gone in (0, 4, 8):
            clients[gone][1].close()
        touched = self.publish("hello")
        self.assertEqual(set(touched), {clients[gone][0] for gone in (0, 4, 8)})
        for number, (parked, theirs) in enumerate(clients):
            self.fanout.remove(parked)
            with self.subTest(number):
                self.assertEqual(parked.lost, number in (0, 4, 8))
                self.assertEqual(parked.sent, 0 if parked.lost else len(self.wire("hello")))
                if not parked.lost:
                    self.assertIn(b"data: hello\n", theirs.recv(65536))

    def test_a_heartbeat_that_must_wait_keeps_its_place(self):
        (parked, theirs), _ = self.client(send_buffer=4096), self.client()
        self.publish("one")  # now both are in a volley
        while not parked.put(Frame(b":" * 4000 + b"\n\n", 0)):
            pass
        self.assertEqual(self.publish("two"), [parked])
        received = b""
        while parked.blocked:
            received += theirs.recv(65536)
            parked.flush()
        received += theirs.recv(65536)
        self.assertTrue(received.endswith(self.wire("two") + b"\r\n"), received[-100:])

    def test_without_chunks(self):
        (plain, theirs), (chunked, _) = self.client(chunked=False), self.client()
        self.publish("hello")
        self.assertEqual(theirs.recv(65536), self.wire("hello"))
        for client in (plain, chunked):
            self.fanout.remove(client)
        self.assertEqual(plain.sent, chunked.sent)

    def test_come_and_go(self):
        first, theirs = self.client()
        self.publish("1")
        second, others = self.client()
        self.publish("2")
        self.fanout.remove(first)
        self.publish("3")
        self.fanout.remove(second)
        self.publish("4")
        self.assertEqual(data_of(theirs), [b"1", b"2"])
        self.assertEqual(data_of(others), [b"2", b"3"])
        self.assertEqual(first.sent, second.sent)
        self.assertIsNone(first.volley)

    def test_nobody(self):
        self.assertEqual(Volley(()).send(Frame(b"x")), [])


def read_exactly(connection, size):
    received = b""
    while len(received) < size:
        received += connection.recv(size - len(received))
    return received


def data_of(connection):
    return [line[6:] for line in connection.recv(65536).split(b"\n") if line.startswith(b"data: ")]


if __name__ == "__main__":
    unittest.main()
