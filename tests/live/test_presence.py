"""Who is there, over three processes of two servers, while they are killed, reloaded and ended.

Real clients, which reconnect as a browser's ``EventSource`` does, note whatever they are told.
"""

from __future__ import annotations

import json
import os
import signal
import unittest
from pathlib import Path

from sse_threaded.testing import GunicornServer, ResumingClient, request
from tests.support import enter, sqlite_url, temporary_directory, wait_until

APP = """
import json
import os
from sse_threaded import Hub
from sse_threaded.presence.times import PresenceTimes
from werkzeug.wrappers import Request, Response

hub = Hub(os.environ["LOG"], heartbeat=0.5, retry=1000)
# Short times, so that the test is. The code is the same.
hub._presence.times = PresenceTimes(grace=8.0, batch=0.1, beat=0.6)


@Request.application
def app(web):
    if web.path == "/streams":
        return Response(f"{os.getpid()} {hub.streams}")
    if web.path == "/people":
        return Response(json.dumps(hub.presence("room")), content_type="application/json")
    return hub.stream(web, "room", user=web.args["user"], presence=True)
"""

PARKED = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "-w", "2")
THREADS = ("-k", "gthread", "--threads", "40", "-c", "python:sse_threaded.gunicorn_hooks", "-w", "1")


def data_of(client: ResumingClient) -> list[dict[str, object]]:
    """What a client was told about presence so far."""
    return [json.loads(event.data) for event in client.events if event.event == "stream-presence"]


def people_of(client: ResumingClient) -> set[str]:
    """Who is there, as a client knows it."""
    people: set[str] = set()
    for data in data_of(client):
        if "people" in data:
            people = set(data["people"])  # type: ignore[call-overload]
        else:
            people |= set(data["joined"])  # type: ignore[call-overload]
            people -= set(data["left"])  # type: ignore[call-overload]
    return people


class PresenceTest(unittest.TestCase):
    # The arguments of the two servers; three processes in all.
    kinds: tuple[tuple[str, ...], ...] = (PARKED, THREADS)

    def make_log_url(self, folder: Path) -> str:
        return sqlite_url(folder)

    def setUp(self) -> None:
        folder = temporary_directory(self)
        (folder / "present.py").write_text(APP, encoding="utf-8")
        env = {"LOG": self.make_log_url(folder)}
        self.servers = [
            enter(self, GunicornServer("present:app", args=[*args, "--chdir", str(folder)], env=env))
            for args in self.kinds
        ]

    def follow(self, user: str, server: GunicornServer) -> ResumingClient:
        return enter(self, ResumingClient(f"{server.url}/?user={user}", timeout=30))

    def streams(self, server: GunicornServer) -> int:
        """How many streams a server has; -1 if not all of its workers answer."""
        pids = set(server.worker_pids())
        found: dict[int, int] = {}
        for _ in range(20 * len(pids)):
            try:
                pid, count = map(int, request("GET", f"{server.url}/streams").body.split())
            except OSError:
                return -1
            found[pid] = count
            if found.keys() == pids:
                return sum(found.values())
        return -1

    def wait_for_streams(self, *counts: int) -> None:
        for server, count in zip(self.servers, counts, strict=True):
            wait_until(lambda: self.streams(server) == count, timeout=30, message="all are back")  # noqa: B023

    def test_it_is_right_and_nobody_flickers(self) -> None:
        first, second = self.servers
        stayers = {f"s{number}": self.follow(f"s{number}", self.servers[number % 2]) for number in range(10)}
        quitters = {f"q{number}": self.follow(f"q{number}", first) for number in range(4)}
        everybody = {*stayers, *quitters}
        for client in stayers.values():
            client.wait_for(lambda client=client: people_of(client) == everybody, what="all")  # type: ignore[misc]
        told = {user: len(data_of(client)) for user, client in stayers.items()}

        os.kill(first.worker_pids()[0], signal.SIGKILL)
        self.wait_for_streams(9, 5)
        old = set(first.worker_pids())
        first.hup()
        wait_until(lambda: not old & set(first.worker_pids()), timeout=30, message="the new workers")
        self.wait_for_streams(9, 5)
        second.restart()
        self.wait_for_streams(9, 5)
        for server in self.servers:
            self.assertEqual(request("GET", f"{server.url}/people").json(), sorted(everybody))

        # Their process cannot say that they have gone.
        for client in quitters.values():
            client.stop()
        for pid in first.worker_pids():
            os.kill(pid, signal.SIGKILL)
        for user, client in stayers.items():
            client.wait_for(lambda client=client: people_of(client) == set(stayers), 30, f"its end, by {user}")  # type: ignore[misc]
        self.wait_for_streams(5, 5)
        for server in self.servers:
            self.assertEqual(request("GET", f"{server.url}/people").json(), sorted(stayers))

        for user, client in stayers.items():
            for data in data_of(client)[told[user] :]:
                if "people" in data:
                    self.assertLessEqual(set(stayers), set(data["people"]), user)  # type: ignore[call-overload]
                else:
                    moved = {*data["joined"], *data["left"]}  # type: ignore[misc]
                    self.assertFalse(moved & set(stayers), f"{user} was told {data}")
        self.assertGreater(sum(client.connections for client in stayers.values()), 20)


if __name__ == "__main__":
    unittest.main()
