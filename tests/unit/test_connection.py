"""A client's connection: how long it may take a response, and how it is closed."""

from __future__ import annotations

import socket
import ssl
import threading
import unittest
from typing import Any
from unittest import mock

from sse_threaded.server import deadlines
from sse_threaded.server.connection import ClientTooSlow, Connection
from tests.support import temporary_directory

# More than the system takes for a client that does not read.
MUCH = b"0123456789" * 400_000


class ConnectionCase(unittest.TestCase):
    def setUp(self) -> None:
        self.client, self.sock = socket.socketpair()
        self.client.settimeout(10)
        for each in (self.client, self.sock):
            self.addCleanup(each.close)
        self.conn = Connection(self.sock, ("192.0.2.1", 1), ("127.0.0.1", 80))

    def read(self, client: socket.socket, size: int) -> bytearray:
        found = bytearray()
        while len(found) < size:
            found += client.recv(65536)
        return found

    def patch(self, target: Any, name: str, value: Any) -> None:
        patch = mock.patch.object(target, name, value)
        patch.start()
        self.addCleanup(patch.stop)


class SendTest(ConnectionCase):
    def test_what_the_system_takes_is_sent_at_once(self) -> None:
        self.conn.sendall(b"hello")
        self.conn.sendall(b"")
        self.assertEqual(self.client.recv(100), b"hello")

    def test_a_client_that_reads_slowly_gets_all(self) -> None:
        sending = threading.Thread(target=self.conn.sendall, args=(MUCH,), daemon=True)
        sending.start()
        self.assertEqual(self.read(self.client, len(MUCH)), MUCH)
        sending.join(10)
        self.assertFalse(sending.is_alive())
        self.assertIsNone(self.sock.gettimeout())

    def test_one_that_reads_nothing_has_its_time(self) -> None:
        self.patch(deadlines, "SEND_SECONDS", 0.01)
        self.patch(deadlines, "SEND_RATE", 1e12)
        with self.assertRaises(ClientTooSlow):
            self.conn.sendall(MUCH)
        self.assertIsNone(self.sock.gettimeout())
        with self.assertRaises(ClientTooSlow):
            self.conn.sendall(b"x")  # the system takes none of it

    def test_one_that_has_gone_is_an_error(self) -> None:
        def hang_up() -> None:
            self.client.recv(100)
            self.client.close()

        leaving = threading.Thread(target=hang_up, daemon=True)
        leaving.start()
        with self.assertRaises(ConnectionError):
            self.conn.sendall(MUCH)
        leaving.join(10)
        with self.assertRaises(BrokenPipeError):
            self.conn.sendall(b"x")

    def test_a_file_is_sent_from_its_place_and_has_its_time(self) -> None:
        path = temporary_directory(self) / "file"
        path.write_bytes(MUCH)
        with path.open("rb") as file:
            self.assertEqual(self.conn.sendfile(file, 3, 5), 5)
            self.assertEqual(self.client.recv(100), b"34567")
            self.assertEqual(self.conn.sendfile(file, count=2), 2)
            self.assertEqual(self.client.recv(100), b"01")
            self.patch(deadlines, "SEND_SECONDS", 0.01)
            with self.assertRaises(ClientTooSlow):
                self.conn.sendfile(file)
        self.assertIsNone(self.sock.gettimeout())

    def test_with_tls_too(self) -> None:
        with self.begin_tls() as client:
            self.conn.sendall(b"hello")
            self.assertEqual(client.recv(100), b"hello")
            sending = threading.Thread(target=self.conn.sendall, args=(MUCH,), daemon=True)
            sending.start()
            received = bytearray()
            while len(received) < len(MUCH):
                received += client.recv(65536)
            self.assertEqual(received, MUCH)
            sending.join(10)
            self.patch(deadlines, "SEND_SECONDS", 0.01)
            with self.assertRaises(ClientTooSlow):
                self.conn.sendall(MUCH)
            self.assertIsNone(self.conn.sock.gettimeout())

    def begin_tls(self) -> ssl.SSLSocket:
        """Make the connection one with TLS, by a cipher that needs no certificate; returns the client."""
        contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
        for context in contexts:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("ADH:AECDH:@SECLEVEL=0")
        clients: list[ssl.SSLSocket] = []

        def connect() -> None:
            clients.append(contexts[1].wrap_socket(self.client))

        connecting = threading.Thread(target=connect, daemon=True)
        connecting.start()
        self.conn.sock = contexts[0].wrap_socket(self.sock, server_side=True)
        self.addCleanup(self.conn.sock.close)
        connecting.join(10)
        return clients.pop()


class HalfCloseTest(ConnectionCase):
    def test_the_client_reads_the_end_and_the_server_waits_for_its_own(self) -> None:
        self.assertFalse(self.conn.half_close())
        self.assertEqual(self.client.recv(10), b"")
        self.client.sendall(b"x")

    def test_it_need_not_wait_for_one_that_has_closed(self) -> None:
        self.client.close()
        self.assertTrue(self.conn.half_close())

    def test_one_that_has_sent_more_must_still_close(self) -> None:
        self.client.sendall(b"x")
        self.assertFalse(self.conn.half_close())

    def test_nor_for_one_that_is_broken(self) -> None:
        self.sock.close()
        self.assertTrue(self.conn.half_close())


class AboutTest(ConnectionCase):
    def test_a_new_one_has_had_no_request(self) -> None:
        self.assertEqual((self.conn.requests, self.conn.received, self.conn.is_whole), (0, b"", False))
        self.assertFalse(self.conn.is_watched)

    def test_its_address_in_a_log(self) -> None:
        self.assertEqual(self.conn.address, "192.0.2.1")
        self.assertEqual(Connection(self.sock, "", "/run/app.sock").address, "a Unix socket")

    def test_an_upload_ends_once(self) -> None:
        self.conn.end_upload()
        self.conn.upload_ended = ended = mock.Mock()
        for _ in range(2):
            self.conn.end_upload()
        ended.assert_called_once_with()


if __name__ == "__main__":
    unittest.main()
