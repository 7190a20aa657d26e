"""A reload under load, small: nothing lost or doubled, no connection refused, all back; for each way to reload."""

import socket
import unittest

from benchmarks.reload.clients import ClientLoop, Reconnection
from benchmarks.reload.experiment import run
from benchmarks.reload.publisher import RepeatingPublisher
from benchmarks.reload.response_bytes import parse
from benchmarks.reload.result import KINDS, compared, table
from sse_threaded.testing import LiveServer
from tests.support import enter, sqlite_url, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

RETRY = 1000


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class ReloadTest(unittest.TestCase):
    def test_nothing_is_lost_and_nobody_is_refused(self):
        for kind in KINDS:
            with self.subTest(kind):
                directory = temporary_directory(self)
                url = sqlite_url(directory)
                found = run(kind, url, directory, streams=60, rate=20.0, retry=RETRY, wait=0.5)
                self.assertEqual((found.lost, found.doubled, found.disordered, found.resets), (0, 0, 0, 0), found)
                self.assertEqual((found.refused, found.cut, found.broken, found.turned_away), (0, 0, 0, 0), found)
                self.assertEqual((found.returned, found.away), (60, 0), found)
                self.assertGreaterEqual(found.events, found.posted)
                self.assertGreater(found.posted, 20)
                shortest, longest = found.retries
                self.assertTrue(RETRY / 5000 <= shortest < longest <= RETRY / 1000, found.retries)
                self.assertIn("| streams opened again | 60, 60 |", table({kind: [found, found]}))


class ResultTest(unittest.TestCase):
    """That a loss would be seen."""

    def judge(self, *got, log=(1, 2), answered=(1, 2)):
        clients = ClientLoop(0, "/", len(got))
        for client, sequences in zip(clients.all, got, strict=True):
            client.sequences.extend(sequences)
        clients.returns = [Reconnection(ended=1.0, retry=retry, begun=1.0 + retry) for retry in (0.5, 1.0)]
        publisher = RepeatingPublisher(0, 1.0)
        publisher.ids = [f"abcdef-{number}" for number in answered]
        found = compared(clients, publisher, list(log), 0.0)
        return found.lost, found.doubled, found.disordered

    def test_what_is_lost_doubled_or_out_of_order(self):
        self.assertEqual(self.judge([1, 2], [1, 2]), (0, 0, 0))
        self.assertEqual(self.judge([1, 2], [1]), (1, 0, 0))
        self.assertEqual(self.judge([1, 2], []), (2, 0, 0))
        self.assertEqual(self.judge([1, 2], [1, 1, 2]), (0, 1, 0))
        self.assertEqual(self.judge([1, 2], [2, 1]), (0, 0, 1))

    def test_what_was_answered_and_is_not_in_the_log_is_lost(self):
        self.assertEqual(self.judge([1, 2], [1, 2], answered=(1, 2, 3)), (2, 0, 0))

    def test_a_post_that_is_answered_otherwise_is_told(self):
        def app(environ, start_response):
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []

        server = enter(self, LiveServer(app))
        publisher = enter(self, RepeatingPublisher(server.port, 20.0))
        wait_until(lambda: publisher.failure, message="the publisher's failure")
        self.assertIn("503", str(publisher.failure))

    def test_a_stream_without_its_end_is_counted(self):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        begin = head + chunk(b"retry: 60000\nid: abcdef-6\n\n")
        for end, broken in ((chunk(b""), 0), (b"", 1)):
            with (
                self.subTest(end),
                socket.create_server(("127.0.0.1", 0)) as listener,
                ClientLoop(listener.getsockname()[1], "/", 1) as clients,
            ):
                server, _ = listener.accept()
                with server:
                    server.recv(65536)
                    server.sendall(begin + end)
                (client,) = clients.all
                wait_until(lambda: client.ended, message="its end")  # noqa: B023
                self.assertEqual((clients.broken, clients.following, clients.failure), (broken, 0, None))


class ResponseBytesTest(unittest.TestCase):
    def test_bytes_cut_anywhere_bring_the_same(self):
        events = b"id: abcdef-7\ndata: x\n\n", b"id: abcdef-8\ndata: y\n\n", b"retry: 1234\n\n"
        body = chunk(b"retry: 5000\nid: abcdef-6\n\n") + b"".join(map(chunk, events)) + chunk(b"")
        for cut in range(len(body) + 1):
            with self.subTest(cut=cut):
                first = parse(body[:cut])
                second = parse(first.rest + body[cut:])
                self.assertEqual(first.sequences + second.sequences, [7, 8])
                self.assertEqual(second.retry if second.retry is not None else first.retry, 1234)
                self.assertEqual(second.last_event_id or first.last_event_id, "abcdef-8")
                self.assertTrue(first.ended or second.ended)

    def test_a_reset_is_no_event_of_the_log(self):
        piece = parse(chunk(b'event: reset\nid: abcdef-9\ndata: {"reason":"expired"}\n\n'))
        self.assertEqual((piece.sequences, piece.resets, piece.last_event_id), ([], 1, "abcdef-9"))


if __name__ == "__main__":
    unittest.main()
