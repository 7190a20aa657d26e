"""The replicas of docs/containers.md, with Redis as it is started there."""

from __future__ import annotations

import unittest

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.container import Container
from tests.harness.redis_server import RedisServer
from tests.live.test_containers_page import documents
from tests.support import enter, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class ReplicasTest(unittest.TestCase):
    def setUp(self) -> None:
        (compose,) = documents("replicas: 3\n    read_only")
        services = compose["services"]
        program, *flags = services["redis"]["command"]
        self.assertEqual(program, "redis-server")
        self.redis = RedisServer(*flags)
        self.addCleanup(self.redis.close)
        url = services["app"]["environment"]["EVENTS_URL"]
        self.assertEqual(url, "redis://redis:6379/0")
        env = {"EVENTS_URL": url.replace("redis:6379", f"127.0.0.1:{self.redis.port}")}
        self.urls = []
        for _ in range(2):
            folder = Container(temporary_directory(self)).folder
            args = ["-c", "gunicorn.conf.py", "-w", "1"]
            self.urls.append(enter(self, GunicornServer("app:app", args=args, cwd=folder, env=env)).url)

    def test_a_client_of_one_gets_the_events_of_the_other_and_may_go_there(self) -> None:
        first, second = self.urls
        with EventStreamClient(f"{second}/orders/events") as client:
            client.wait_for_retry()
            for item in ("tea", "milk"):
                request("POST", f"{first}/orders", body=f"item={item}".encode(), headers=_FORM)
            seen = client.next_event()
            self.assertEqual(seen.data, '{"item":"tea"}')
        with EventStreamClient(f"{first}/orders/events", last_event_id=seen.last_event_id) as client:
            self.assertEqual(client.next_event().data, '{"item":"milk"}')

    def test_while_redis_is_down_probes_of_traffic_pass_and_browsers_come_again(self) -> None:
        (url, _) = self.urls
        with EventStreamClient(f"{url}/orders/events") as client:
            client.wait_for_retry()
            self.redis.kill()
            wait_until(
                lambda: request("GET", f"{url}/healthz").status == 503, timeout=30, message="health says it"
            )
            self.assertEqual(request("GET", f"{url}/livez").status, 200)
            self.assertFalse(client.ended)
            with EventStreamClient(f"{url}/orders/events") as other:
                self.assertEqual(other.status, 200)
                other.wait_for_end()
                self.assertIn(b"event: stream-unavailable\n", other.raw)


if __name__ == "__main__":
    unittest.main()
