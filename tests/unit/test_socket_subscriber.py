"""A broadcast to many parked clients: each gets every byte once and in order, whatever its socket takes."""

import contextlib
import socket
import sys
import unittest
from unittest import mock

from sse_threaded.fanout.audience import Audiences
from sse_threaded.fanout.broadcast import Broadcast
from sse_threaded.fanout.log_reader import pause_after
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.log import MemoryLog, Record
from sse_threaded.protocol.batch import Batch
from tests.unit.fake_handover import FakeHandover


class BroadcastTest(unittest.TestCase):
    def setUp(self):
        self.log = MemoryLog()
        self.addCleanup(self.log.close)
        self.audiences = Audiences(self.log)
        self.position = 0

    def client(self, *, chunked=True, send_buffer=None, kind=socket.socket):
        ours, theirs = socket.socketpair()
        ours = kind(fileno=ours.detach())
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        theirs.settimeout(10)
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        parked = SocketSubscriber(
            ("a",), 100, ours, chunked=chunked, cursor=None, handover=FakeHandover(lambda: None)
        )
        self.audiences.add(parked, self.position)
        return parked, theirs

    def publish(self, data):
        """One event to all, as the pump does it; returns those that the pump has to check."""
        self.position += 1
        to_check = []
        for batch, broadcast, others in self.audiences.deliveries([Record(self.position, "a", None, data)]):
            to_check += broadcast.send(batch) if broadcast else []
            to_check += [each for each in others if each.deliver(batch)]
        return to_check

    def wire(self, data):
        return f"data: {data}\nid: {self.log.event_id(self.position)}\n\n".encode()

    def test_all_get_it_and_it_is_counted(self):
        clients = [self.client() for _ in range(20)]
        expected = b""
        for number in range(5):
            self.assertEqual(self.publish(f"event {number}"), [])
            wire = self.wire(f"event {number}")
            expected += b"%x\r\n%b\r\n" % (len(wire), wire)
        for parked, theirs in clients:
            self.assertEqual(theirs.recv(65536), expected)
            self.audiences.remove(parked)
            self.assertEqual(parked.sent, sum(map(len, (wire,) * 5)))

    def test_a_client_that_takes_a_part_gets_the_rest_later_and_nothing_in_between(self):
        (slow, theirs), (quick, other) = self.client(send_buffer=4096), self.client()
        self.publish("before")
        before = len(self.wire("before"))
        large = "x" * 20_000
        self.assertEqual(self.publish(large), [slow])
        self.assertTrue(slow.is_blocked)
        self.assertEqual(slow.sent, before)
        self.assertEqual(self.publish("after"), [slow])
        slow.deliver_heartbeat(Batch(b":\n\n", 0))
        received = b""
        while slow.is_blocked:
            received += theirs.recv(65536)
            slow.continue_writing()
        received += theirs.recv(65536)
        self.assertEqual(self.publish("and on"), [])
        received += theirs.recv(65536)
        self.assertIs(slow.broadcast, quick.broadcast)  # again
        self.assertEqual(received, read_exactly(other, len(received)))
        for client in (slow, quick):
            self.audiences.remove(client)
        self.assertEqual(slow.sent, quick.sent)
        self.assertEqual(received.count(b"data: "), 4)

    def test_clients_that_are_gone_are_noticed_and_the_others_get_the_event(self):
        clients = [self.client() for _ in range(9)]
        for gone in (0, 4, 8):
            clients[gone][1].close()
        to_check = self.publish("hello")
        self.assertEqual(set(to_check), {clients[gone][0] for gone in (0, 4, 8)})
        for number, (parked, theirs) in enumerate(clients):
            self.audiences.remove(parked)
            with self.subTest(number):
                self.assertEqual(parked.state.is_lost, number in (0, 4, 8))
                self.assertEqual(parked.sent, 0 if parked.state.is_lost else len(self.wire("hello")))
                if not parked.state.is_lost:
                    self.assertIn(b"data: hello\n", theirs.recv(65536))

    def test_a_heartbeat_that_must_wait_keeps_its_place(self):
        (parked, theirs), _ = self.client(send_buffer=4096), self.client()
        self.publish("one")  # now both are in a broadcast
        while not parked.deliver(Batch(b":" * 4000 + b"\n\n", 0)):
            pass
        self.assertEqual(self.publish("two"), [parked])
        received = b""
        while parked.is_blocked:
            received += theirs.recv(65536)
            parked.continue_writing()
        received += theirs.recv(65536)
        self.assertTrue(received.endswith(self.wire("two") + b"\r\n"), received[-100:])

    def test_a_client_whose_socket_takes_nothing_gets_it_later(self):
        for number in range(2):
            with self.subTest(number=number):
                self.setUp()
                clients = [self.client(send_buffer=4096), self.client(send_buffer=4096)]
                self.publish("one")  # now both are in a broadcast
                first = len(self.wire("one")) + 6
                full, theirs = clients[number]
                filled = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        filled += full.connection.send(b":" * 4096)
                self.assertEqual(self.publish("two"), [full])
                wire = self.wire("two")
                read_exactly(theirs, first + filled)
                full.continue_writing()
                self.assertEqual(read_exactly(theirs, len(wire) + 6), b"%x\r\n%b\r\n" % (len(wire), wire))
                self.assertTrue(clients[1 - number][1].recv(65536).endswith(wire + b"\r\n"))

    def test_a_defect_in_the_midst_ends_all_without_another_byte(self):
        clients = [self.client() for _ in range(3)]
        self.publish("one")
        send = mock.Mock(side_effect=[42, MemoryError])
        with mock.patch("sse_threaded.fanout.broadcast.plain_send", send), self.assertRaises(MemoryError):
            self.publish("two")
        for parked, theirs in clients:
            parked.end(EndReason.BEHIND, b"farewell")
            self.assertTrue(parked.state.is_lost and parked.is_over)
            self.assertNotIn(b"farewell", theirs.recv(65536))

    def test_a_client_that_left_is_not_kept(self):
        (gone, _), (_there, _) = self.client(chunked=False), self.client()
        self.publish("one")
        self.audiences.remove(gone)
        # This variable and the question itself.
        self.assertLessEqual(sys.getrefcount(gone), 2)

    def test_a_socket_with_a_send_of_its_own_is_sent_to_by_that(self):
        class OtherSocket(socket.socket):
            def send(self, data):
                return super().send(data.upper())

        (parked, theirs), (other, _) = self.client(kind=OtherSocket), self.client()
        self.publish("hello")
        self.assertIn(b"DATA: HELLO", theirs.recv(65536))
        self.assertEqual((parked.broadcast is None, other.broadcast is None), (True, False))

    def test_without_chunks(self):
        (plain, theirs), (chunked, _) = self.client(chunked=False), self.client()
        self.publish("hello")
        self.assertEqual(theirs.recv(65536), self.wire("hello"))
        for client in (plain, chunked):
            self.audiences.remove(client)
        self.assertEqual(plain.sent, chunked.sent)

    def test_a_client_whose_replay_is_ahead_gets_nothing_twice(self):
        other, others = self.client()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        theirs.settimeout(10)
        ahead = SocketSubscriber(("a",), 100, ours, chunked=True, cursor=None, handover=FakeHandover(lambda: None))
        ahead.after = 2
        self.audiences.add(ahead, self.position)
        for number in range(1, 5):
            self.publish(str(number))
        self.assertEqual(data_of(theirs), [b"3", b"4"])
        self.assertEqual(data_of(others), [b"1", b"2", b"3", b"4"])
        for client in (ahead, other):
            self.audiences.remove(client)
        self.assertEqual(len(self.audiences), 0)

    def test_come_and_go(self):
        first, theirs = self.client()
        self.publish("1")
        second, others = self.client()
        self.publish("2")
        self.audiences.remove(first)
        self.publish("3")
        self.audiences.remove(second)
        self.publish("4")
        self.assertEqual(data_of(theirs), [b"1", b"2"])
        self.assertEqual(data_of(others), [b"2", b"3"])
        self.assertEqual(first.sent, second.sent)
        self.assertIsNone(first.broadcast)

    def test_the_pump_pauses_for_half_the_time_and_never_where_few_listen(self):
        for took, pause in ((0.0, 0.0), (0.0019, 0.0), (0.002, 0.001), (0.0079, 0.003), (0.1, 0.01)):
            self.assertEqual(pause_after(took), pause, took)

    def test_nobody(self):
        self.assertEqual(Broadcast().send(Batch(b"x")), [])


def read_exactly(connection, size):
    received = b""
    while len(received) < size:
        received += connection.recv(size - len(received))
    return received


def data_of(connection):
    return [line[6:] for line in connection.recv(65536).split(b"\n") if line.startswith(b"data: ")]


if __name__ == "__main__":
    unittest.main()
