"""The code of docs/usage.md and docs/access.md that has no test of its own elsewhere, as it stands there."""

from __future__ import annotations

import unittest

from sse_threaded.testing import EventStreamClient, LiveServer, request
from tests.quality.test_examples import blocks, made_whole
from tests.support import enter


def run_block(sign: str) -> dict[str, object]:
    """Run the block with this text in it, and return its names."""
    (block,) = [each for each in blocks() if each.path.name in ("usage.md", "access.md") and sign in each.text]
    names: dict[str, object] = {}
    exec(made_whole(block), names)
    return names


class UsagePageTest(unittest.TestCase):
    def test_a_stream_that_ends(self) -> None:
        hub = enter(self, run_block('hub.finish("job-7"')["hub"])
        response = hub.stream({"REQUEST_METHOD": "GET"}, "job-7", from_start=True)
        body = b"".join(response.response)
        self.assertIn(b'event: stream-finished\ndata: {"result":"report.pdf"}\n', body)
        self.assertLess(body.index(b'{"done":90}'), body.index(b"report.pdf"))

    def test_a_logout(self) -> None:
        names = run_block("def logout()")
        hub, app = enter(self, names["hub"]), names["app"]
        app.secret_key = "not secret"
        with app.test_client() as client:
            self.assertEqual(client.get("/my/events").status_code, 403)
            with client.session_transaction() as session:
                session["user"] = "7"
            cookie = client.get_cookie("session")
            headers = {"Cookie": f"session={cookie.value}"}
            server = enter(self, LiveServer(app))
            with EventStreamClient(f"{server.url}/my/events", headers=headers) as stream:
                stream.wait_for_retry()
                hub.publish("user-7", "mine")
                self.assertEqual(stream.next_event().data, "mine")
                self.assertEqual(request("POST", f"{server.url}/logout", headers=headers).status, 200)
                hub.publish("user-7", "late")
                stream.wait_for_end()
                self.assertEqual(stream.pending(), [])

    def test_a_ticket(self) -> None:
        names = run_block("hub.ticket(")
        hub, app = enter(self, names["hub"]), names["app"]
        server = enter(self, LiveServer(app))
        with app.test_client() as client:
            self.assertEqual(client.post("/ticket").status_code, 403)
            with client.session_transaction() as session:
                session["user"] = "7"
            ticket = client.post("/ticket").json["ticket"]
        with EventStreamClient(f"{server.url}/events?ticket={ticket}") as stream:
            stream.wait_for_retry()
            hub.publish("user-7", "mine")
            self.assertEqual(stream.next_event().data, "mine")
        self.assertEqual(request("GET", f"{server.url}/events").status, 403)


if __name__ == "__main__":
    unittest.main()
