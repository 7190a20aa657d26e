"""The app of docs/presence.md, as it stands there."""

from __future__ import annotations

import json
import unittest
from urllib.parse import urlencode

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.quality.test_examples import blocks
from tests.support import enter, temporary_directory


class PresencePageTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = temporary_directory(self)
        (code,) = [each.text for each in blocks() if each.path.name == "presence.md"]
        (folder / "room.py").write_text(code, encoding="utf-8")
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "-w", "2"]
        self.server = enter(self, GunicornServer("room:app", args=args, cwd=folder))

    def open(self, name: str) -> EventStreamClient:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"name": name}).encode()
        answer = request("POST", f"{self.server.url}/login", headers=form, body=body)
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        url = f"{self.server.url}/rooms/7/events"
        return enter(self, EventStreamClient(url, headers={"Cookie": cookie}, timeout=30))

    def test_two_users_see_each_other(self) -> None:
        clients = {name: self.open(name) for name in ("anna", "bo")}
        for client in clients.values():
            people: set[str] = set()
            while people != set(clients):
                event = client.next_event()
                self.assertEqual(event.event, "stream-presence")
                data = json.loads(event.data)
                people = set(data["people"]) if "people" in data else people | set(data["joined"])
        self.assertEqual(request("GET", f"{self.server.url}/rooms/7/people").json(), ["anna", "bo"])
        self.assertEqual(request("GET", f"{self.server.url}/rooms/7/events").status, 403)


if __name__ == "__main__":
    unittest.main()
