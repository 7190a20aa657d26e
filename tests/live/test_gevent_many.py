"""Five hundred streams under a gevent worker.

The pump gives each stream half a second for its farewell, so this needs the machine for itself.
"""

from __future__ import annotations

from sse_threaded import Hub
from tests.live.test_gevent import GeventCase, setUpModule
from tests.support import FAREWELL, wait_until

ONCE = True
ALONE = True

__all__ = ["ManyTest", "setUpModule"]


class ManyTest(GeventCase):
    def test_500_streams_get_all_are_let_go_and_get_a_farewell(self) -> None:
        server = self.serve()
        clients = [self.open(server) for _ in range(500)]
        with Hub(self.log_url) as other:
            for number in range(100):
                other.publish("news", str(number))
        expected = [str(number) for number in range(100)]
        for client in clients:
            self.assertEqual([event.data for event in client.events(100, timeout=30)], expected)
        for client in clients[::2]:
            client.close()
        wait_until(lambda: self.streams(server) == 250, message="those who hung up are let go")
        server.terminate()
        for client in clients[1::2]:
            client.wait_for_end()
            self.assertRegex(client.raw, FAREWELL + rb"\Z")
        self.assertEqual(server.wait(10), 0)
