"""The board's routes: the contract to the letter, and an answer to every bad input."""

from __future__ import annotations

import http.client
import io
import json
import unittest
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock
from urllib.parse import urlsplit

from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

from sse_threaded import Hub, LogUnavailable, LogUnusable
from sse_threaded.board import create_app
from sse_threaded.board.allowed_hosts import checked_names
from sse_threaded.board.app import BoardApp
from sse_threaded.board.settings import SettingError, hub_settings, log_url, trusted_hosts
from sse_threaded.browser import script
from sse_threaded.log.interface import NestedTransaction
from sse_threaded.testing import LiveServer

JSON = {"Accept": "application/json"}
TASKS = "/boards/board-1/tasks"


class BrokenLog:
    """A log that fails at every touch."""

    url = "broken://"

    def __init__(self, error: Exception) -> None:
        self.error = error

    @contextmanager
    def transaction(self) -> Any:
        raise self.error
        yield

    snapshot = transaction


class BrokenHub:
    """A hub over a broken log, from which nobody may take a stream."""

    def __init__(self, error: Exception) -> None:
        self.log = BrokenLog(error)

    def health(self) -> NoReturn:
        raise self.log.error

    def stream(self, request: Any, channels: str) -> NoReturn:
        raise AssertionError("a stream was attached to a channel of which nobody knows whether it is a board's")

    def come_back(self, reason: str) -> Response:
        return Response("retry: 5000\n\n", content_type="text/event-stream")


class RoutesCase(unittest.TestCase):
    def setUp(self) -> None:
        self.app = create_app("memory://")
        self.addCleanup(self.app.hub.close)
        self.client = Client(self.app)

    def board(self) -> Any:
        return self.client.get("/boards/board-1", headers=JSON).json

    def events(self) -> list[str]:
        return [record.data for record in self.app.hub.log.read(0)]

    def assert_problem(self, response: TestResponse, status: int) -> Any:
        self.assertEqual(response.status_code, status, response.get_data(as_text=True))
        self.assertEqual(response.content_type, "application/problem+json")
        body = response.json
        assert body is not None
        self.assertEqual(body["status"], status)
        self.assertTrue(body["title"])
        self.assertRegex(body["detail"], r"^.{12,200}\.$")  # a sentence
        return body


class ContractTest(RoutesCase):
    def test_the_root_leads_to_the_board(self) -> None:
        response = self.client.get("/")
        self.assertEqual((response.status_code, response.location), (302, "/boards/board-1"))

    def test_the_snapshot(self) -> None:
        response = self.client.get("/boards/board-1", headers=JSON)
        self.assertEqual((response.status_code, response.content_type), (200, "application/json"))
        self.assertEqual(response.headers["Vary"], "Accept")
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        board = response.json
        assert board is not None
        self.assertEqual(list(board), ["id", "title", "lists", "tasks", "lastEventId"])
        self.assertEqual({tuple(item) for item in board["lists"]}, {("id", "title")})
        self.assertEqual({tuple(task) for task in board["tasks"]}, {("id", "title", "listId")})
        self.assertEqual(board["lastEventId"], self.app.hub.log.last_event_id())

    def test_which_form_of_the_board(self) -> None:
        page = "text/html; charset=utf-8"
        for accept, expected in (
            ("application/json", "application/json"),
            ("application/json, text/html;q=0.5", "application/json"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", page),
            ("*/*", page),
            ("", page),
            ("image/png", page),
        ):
            with self.subTest(accept=accept):
                response = self.client.get("/boards/board-1", headers={"Accept": accept})
                self.assertEqual((response.status_code, response.content_type), (200, expected))
                self.assertEqual(response.headers["Vary"], "Accept")

    def test_a_new_task(self) -> None:
        response = self.client.post(TASKS, json={"title": "New task"})
        self.assertEqual(response.status_code, 201)
        self.assertEqual(response.text.strip(), '{"id":"task-5","title":"New task","listId":"list-todo"}')
        self.assertEqual(response.location, f"{TASKS}/task-5")
        self.assertEqual(response.headers["Last-Event-ID"], self.app.hub.log.last_event_id())
        self.assertEqual(self.client.get(response.location).json, response.json)
        self.assertEqual(self.events(), ['{"type":"task_created","task":{"id":"task-5","title":"New task"}}'])

    def test_a_new_task_in_a_list(self) -> None:
        response = self.client.post(TASKS, json={"title": "  Übung ✓ ", "listId": "list-doing"})
        self.assertEqual(response.text.strip(), '{"id":"task-5","title":"Übung ✓","listId":"list-doing"}')
        event = '{"type":"task_created","task":{"id":"task-5","title":"Übung ✓","listId":"list-doing"}}'
        self.assertEqual(self.events(), [event])

    def test_a_move_a_rename_and_both(self) -> None:
        task = f"{TASKS}/task-1"
        moved = self.client.patch(task, json={"listId": "list-doing"})
        self.assertEqual((moved.status_code, moved.json["listId"]), (200, "list-doing"))
        renamed = self.client.patch(task, json={"title": "Renamed"})
        self.assertEqual(renamed.json, {"id": "task-1", "title": "Renamed", "listId": "list-doing"})
        both = self.client.patch(task, json={"title": "Both", "listId": "list-done"})
        self.assertEqual(both.headers["Last-Event-ID"], self.app.hub.log.last_event_id())
        self.assertEqual(
            self.events(),
            [
                '{"type":"task_moved","task":{"id":"task-1","listId":"list-doing"}}',
                '{"type":"task_renamed","task":{"id":"task-1","title":"Renamed"}}',
                '{"type":"task_moved","task":{"id":"task-1","listId":"list-done"}}',
                '{"type":"task_renamed","task":{"id":"task-1","title":"Both"}}',
            ],
        )
        again = self.client.patch(task, json={"title": "Both", "listId": "list-done"})
        self.assertEqual((again.status_code, again.json), (200, both.json))
        self.assertNotIn("Last-Event-ID", again.headers)
        self.assertEqual(len(self.events()), 4)

    def test_a_deletion(self) -> None:
        response = self.client.delete(f"{TASKS}/task-2")
        self.assertEqual((response.status_code, response.data), (204, b""))
        self.assertNotIn("Content-Type", response.headers)
        self.assertEqual(self.events(), ['{"type":"task_deleted","taskId":"task-2"}'])
        self.assert_problem(self.client.delete(f"{TASKS}/task-2"), 404)
        self.assertEqual(len(self.events()), 1)

    def test_a_new_board(self) -> None:
        response = self.client.post("/boards", json={"title": "Second"})
        self.assertEqual((response.status_code, response.location), (201, "/boards/board-2"))
        self.assertEqual(response.json, self.client.get("/boards/board-2", headers=JSON).json)
        self.assertEqual(self.client.post("/boards/board-2/tasks", json={"title": "x"}).status_code, 201)
        self.assertEqual(len(self.board()["tasks"]), 4)

    def test_the_boards(self) -> None:
        first = {"id": "board-1", "title": self.board()["title"]}
        response = self.client.get("/boards")
        self.assertEqual((response.status_code, response.content_type), (200, "application/json"))
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        self.assertEqual(response.json, {"boards": [first], "next": None})
        self.client.post("/boards", json={"title": "Zweites <b> ✓"})
        second = {"id": "board-2", "title": "Zweites <b> ✓"}
        self.assertEqual(self.client.get("/boards").json, {"boards": [second, first], "next": None})
        self.assertEqual(self.client.get("/boards?before=board-2").json, {"boards": [first], "next": None})
        self.assertEqual(self.client.get("/boards?before=board-1").json, {"boards": [], "next": None})

    def test_many_boards_come_a_hundred_at_a_time(self) -> None:
        for number in range(2, 251):
            self.client.post("/boards", json={"title": f"Board {number}"})
        seen, sizes, way = [], [], "/boards"
        while way is not None:
            answer = self.client.get(way).json
            assert answer is not None
            sizes.append(len(answer["boards"]))
            seen += [board["id"] for board in answer["boards"]]
            way = answer["next"]
        self.assertEqual(sizes, [100, 100, 50])
        self.assertEqual(seen, [f"board-{number}" for number in range(250, 0, -1)])

    def test_events(self) -> None:
        self.assert_problem(self.client.get("/boards/board-9/events"), 404)
        head = self.client.head("/boards/board-1/events")
        self.assertEqual((head.status_code, head.mimetype), (200, "text/event-stream"))
        self.assertEqual(head.data, b"")
        start = self.board()["lastEventId"]
        self.client.post(TASKS, json={"title": "New task"})
        poll = self.client.get(f"/boards/board-1/events?wait=0&lastEventId={start}", headers=JSON).json
        assert poll is not None
        self.assertEqual([event["data"] for event in poll["events"]], self.events())
        self.assertEqual((poll["lastEventId"], poll["reset"]), (self.board()["lastEventId"], False))

    def test_events_of_several_boards(self) -> None:
        self.client.post("/boards", json={"title": "Second"})
        start = self.board()["lastEventId"]
        for board in ("board-1", "board-2"):
            self.client.post(f"/boards/{board}/tasks", json={"title": "New task"})
        both = "/events?channel=board-1&channel=board-2&withChannel=1"
        poll = self.client.get(f"{both}&wait=0&lastEventId={start}", headers=JSON).json
        assert poll is not None
        self.assertEqual([event["channel"] for event in poll["events"]], ["board-1", "board-2"])
        self.assertEqual(self.client.head(both).mimetype, "text/event-stream")
        body = self.assert_problem(self.client.get("/events?channel=board-1&channel=board-9&channel=other"), 404)
        self.assertEqual(body["channels"], ["board-9", "other"])
        self.assert_problem(self.client.get("/events"), 400)

    def test_the_debug_page_is_for_operators(self) -> None:
        self.assert_problem(self.client.get("/debug/"), 404)
        with mock.patch.dict("os.environ", {"SSE_THREADED_DEBUG": "1"}):
            app = create_app("memory://")
        self.addCleanup(app.hub.close)
        client = Client(app)
        here = {"REMOTE_ADDR": "127.0.0.1"}
        self.assertEqual(client.get("/debug", environ_base=here).headers["Location"], "debug/")
        for path in ("/debug/", "/debug/debug.js", "/debug/events", "/debug/state"):
            with self.subTest(path=path):
                self.assertEqual(client.get(path, environ_base=here).status_code, 200)
        posted = client.post("/debug/publish", json={"channel": "board-1", "data": "{}"}, environ_base=here)
        self.assertEqual(posted.status_code, 201)
        for environ in ({"REMOTE_ADDR": "192.0.2.1"}, {**here, "HTTP_X_FORWARDED_FOR": "127.0.0.1"}):
            with self.subTest(environ=environ):
                self.assert_problem(client.get("/debug/state", environ_base=environ), 403)
        # A page of another site that has a name for this machine's address.
        self.assert_problem(client.get("/debug/state", headers={"Host": "evil.example"}, environ_base=here), 421)

    def test_health(self) -> None:
        response = self.client.get("/healthz")
        self.assertEqual(response.status_code, 200)
        assert response.json is not None
        self.assertEqual(response.json["log"]["lastEventId"], self.app.hub.log.last_event_id())
        self.assertEqual(response.json["streams"], 0)

    def test_head_is_get_without_a_body(self) -> None:
        for path in ("/", "/healthz", "/boards/board-1", f"{TASKS}/task-1", "/static/board.js", "/boards/board-9"):
            with self.subTest(path=path):
                get, head = self.client.get(path), self.client.head(path)
                self.assertEqual((head.status_code, head.data), (get.status_code, b""))
                self.assertEqual(head.headers.get("Content-Length"), get.headers.get("Content-Length"))


class AssetsTest(RoutesCase):
    def test_the_page_lets_in_nothing_but_its_own_files(self) -> None:
        response = self.client.get("/boards/board-1")
        policy = response.headers["Content-Security-Policy"]
        nothing = {f"{name} 'none'" for name in ("default-src", "base-uri", "form-action", "frame-ancestors")}
        own = {f"{name} 'self'" for name in ("script-src", "style-src", "img-src", "connect-src")}
        self.assertEqual(set(policy.split("; ")), nothing | own | {"require-trusted-types-for 'script'"})
        self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(response.headers["Referrer-Policy"], "same-origin")
        for forbidden in ("http://", "https://", " style=", "onclick", "<style"):
            self.assertNotIn(forbidden, response.text)

    def test_files_have_their_types_and_are_not_sent_twice(self) -> None:
        for path, kind in (
            ("/static/board.js", "text/javascript; charset=utf-8"),
            ("/static/board.css", "text/css; charset=utf-8"),
            ("/static/favicon.svg", "image/svg+xml"),
            ("/boards/board-1", "text/html; charset=utf-8"),
        ):
            with self.subTest(path=path):
                first = self.client.get(path)
                self.assertEqual((first.status_code, first.content_type), (200, kind))
                self.assertEqual(first.headers["Cache-Control"], "no-cache")
                again = self.client.get(path, headers={"If-None-Match": first.headers["ETag"]})
                self.assertEqual((again.status_code, again.data), (304, b""))

    def test_all_that_the_page_names_is_there(self) -> None:
        page = self.client.get("/boards/board-1").text
        named = [part.split('"')[0] for part in page.split('"/static/')[1:]]
        self.assertIn("board.js", named)
        for name in named:
            with self.subTest(name=name):
                self.assertEqual(self.client.get(f"/static/{name}").status_code, 200)

    def test_live_js_is_kept_for_ever(self) -> None:
        page = self.client.get("/boards/board-1").text
        self.assertEqual(page.count(f"/static/{script().name}"), 1)
        response = self.client.get(f"/static/{script().name}")
        self.assertEqual((response.status_code, response.data), (200, script().data))
        self.assertIn("immutable", response.headers["Cache-Control"])
        self.assertEqual(response.headers["Referrer-Policy"], "same-origin")

    def test_the_page_has_the_tasks_and_the_board_as_json(self) -> None:
        title = "</script><!-- {title} & \u2028"
        self.client.post("/boards", json={"title": title[:20]})
        self.client.post("/boards/board-2/tasks", json={"title": "<b>{id}</b>"})
        page = self.client.get("/boards/board-2").text
        _, _, rest = page.partition('<script type="application/json" id="snapshot">')
        self.assertEqual(
            json.loads(rest.partition("</script>")[0]), self.client.get("/boards/board-2", headers=JSON).json
        )
        self.assertIn("&lt;b&gt;{id}&lt;/b&gt;", page)
        self.assertIn("<title>&lt;/script&gt;&lt;!-- {title</title>", page)
        self.assertEqual(page.count('class="lane"'), 4)  # and one in the template
        self.assertEqual(page.count('class="card"'), 2)

    def test_a_page_is_sent_again_only_if_its_board_has_changed(self) -> None:
        first = self.client.get("/boards/board-1")
        same = {"If-None-Match": first.headers["ETag"]}
        self.assertEqual(self.client.get("/boards/board-1", headers=same).status_code, 304)
        self.client.post(TASKS, json={"title": "New task"})
        again = self.client.get("/boards/board-1", headers=same)
        self.assertEqual(again.status_code, 200)
        self.assertIn("New task", again.text)

    def test_no_other_file_is_to_be_had(self) -> None:
        for path in ("/static/app.py", "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/", "/static/x.js"):
            with self.subTest(path=path):
                self.assert_problem(self.client.get(path), 404)


class BadInputTest(RoutesCase):
    def setUp(self) -> None:
        super().setUp()
        self.before = self.board()

    def tearDown(self) -> None:
        self.assertEqual(self.board(), self.before, "bad input has changed something")
        super().tearDown()

    def test_bodies_that_are_no_good_object(self) -> None:
        bodies: list[tuple[bytes, int]] = [
            (b"", 400),
            (b"{", 400),
            (b'{"title": "x"}}', 400),
            (b"\xff\xfe", 400),
            (b"[" * 60_000, 400),
            (b"1" * 5000, 400),
            (b"[]", 422),
            (b"null", 422),
            (b'"title"', 422),
            (b"{}", 422),
            (b'{"title": 5}', 422),
            (b'{"title": null}', 422),
            (b'{"title": NaN}', 422),
            (b'{"title": ["x"]}', 422),
            (b'{"title": "x", "colour": "red"}', 422),
            (b'{"title": "x", "\\ud800": "red"}', 422),
            (b'{"title": "x", "listId": 1}', 422),
            (b'{"title": "x", "listId": "list-nowhere"}', 422),
            (b'{"title": "x", "listId": "%s"}' % (b"x" * 60_000), 422),
            (b'{"listId": "list-todo"}', 422),
            (b" " * (64 * 1024 + 1), 413),
        ]
        for body, status in bodies:
            with self.subTest(body=body[:40]):
                response = self.client.post(TASKS, data=body, content_type="application/json")
                self.assert_problem(response, status)

    def test_titles(self) -> None:
        empty = ("", "   ", "\n", "\u200b")
        for title in (*empty, "x" * 201, "a\x00b", "a\nb", "a\u2028b", "\x7f", "\ud83d", "a\x1b[0m"):
            with self.subTest(title=title):
                self.assert_problem(self.client.post(TASKS, json={"title": title}), 422)
                self.assert_problem(self.client.patch(f"{TASKS}/task-1", json={"title": title}), 422)
                self.assert_problem(self.client.post("/boards", json={"title": title}), 422)

    def test_changes(self) -> None:
        bodies: list[dict[str, Any]] = [{}, {"title": None}, {"listId": "list-nowhere"}, {"id": "task-9"}]
        for body in [*bodies, {"title": "x", "listId": 1}]:
            with self.subTest(body=body):
                self.assert_problem(self.client.patch(f"{TASKS}/task-1", json=body), 422)

    def test_what_is_not_there(self) -> None:
        title = {"title": "x"}
        for method, path, body in (
            ("GET", "/boards/board-9", None),
            ("GET", "/boards/board-1x", None),
            ("GET", "/boards/%00", None),
            ("GET", "/boards/board-9/events", None),
            ("POST", "/boards/board-9/tasks", title),
            ("PATCH", f"{TASKS}/task-9", title),
            ("PATCH", "/boards/board-9/tasks/task-1", title),
            ("DELETE", f"{TASKS}/task-9", None),
            ("DELETE", f"{TASKS}/task-18446744073709551617", None),
            ("GET", f"{TASKS}/task-9", None),
            ("GET", "/nothing", None),
            ("GET", "//boards/board-1", None),
        ):
            with self.subTest(method=method, path=path):
                self.assert_problem(self.client.open(path, method=method, json=body, headers=JSON), 404)

    def test_a_place_in_the_list_of_boards_that_is_none(self) -> None:
        for before in ("", "2", "board-0", "board-01", "board-x", "board-" + "9" * 19, "task-1"):
            with self.subTest(before=before):
                self.assert_problem(self.client.get("/boards", query_string={"before": before}), 400)

    def test_wrong_methods(self) -> None:
        for method, path, allowed in (
            ("POST", "/", "GET, HEAD"),
            ("PUT", "/boards", "GET, HEAD, POST"),
            ("PUT", "/boards/board-1", "GET, HEAD"),
            ("DELETE", "/boards/board-1", "GET, HEAD"),
            ("GET", TASKS, "POST"),
            ("PUT", f"{TASKS}/task-1", "DELETE, GET, HEAD, PATCH"),
            ("POST", "/boards/board-1/events", "GET, HEAD"),
            ("OPTIONS", TASKS, "POST"),  # so no other site's script gets leave to post here
        ):
            with self.subTest(method=method, path=path):
                response = self.client.open(path, method=method, json={"title": "x"})
                self.assert_problem(response, 405)
                self.assertEqual(response.headers["Allow"], allowed)

    def test_wrong_content_types(self) -> None:
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"):
            with self.subTest(kind=kind):
                self.assert_problem(self.client.post(TASKS, data=b'{"title": "x"}', content_type=kind), 415)
                response = self.client.patch(f"{TASKS}/task-1", data=b'{"title": "x"}', content_type=kind)
                self.assert_problem(response, 415)

    def test_a_long_body_without_a_length(self) -> None:
        # What fits is good JSON, so cutting it off there would pass for good.
        body = io.BytesIO(b'{"title":"x"}' + b" " * 64 * 1024)
        environ = {"wsgi.input_terminated": True}
        response = self.client.post(
            TASKS, input_stream=body, content_type="application/json", environ_overrides=environ
        )
        self.assert_problem(response, 413)

    def test_a_body_that_was_cut_short(self) -> None:
        # What is there is good JSON.
        environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "50"}
        response = self.client.post(
            TASKS, data=b'{"title":"x"}', content_type="application/json", environ_overrides=environ
        )
        self.assert_problem(response, 400)

    def test_a_body_whose_connection_breaks(self) -> None:
        for error in (ConnectionResetError(), ValueError("closed")):
            body = mock.Mock(read=mock.Mock(side_effect=error), spec=["read"])
            environ = {"CONTENT_LENGTH": "50", "CONTENT_TYPE": "application/json", "wsgi.input": body}
            self.assert_problem(self.client.post(TASKS, environ_overrides=environ), 400)

    def test_a_long_chunked_body_over_a_socket(self) -> None:
        with LiveServer(self.app) as server:
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
            self.addCleanup(connection.close)
            headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
            pieces = [b'{"title":"x"}', *[b" " * 1024] * 64]
            connection.request("POST", TASKS, iter(pieces), headers, encode_chunked=True)
            response = connection.getresponse()
            self.assertEqual((response.status, json.load(response)["status"]), (413, 413))


class GoodInputTest(RoutesCase):
    def test_the_longest_title(self) -> None:
        for title in ("x" * 200, "é" * 200, "🎈" * 200, "👩‍🚀", "x"):
            with self.subTest(title=title):
                response = self.client.post(TASKS, json={"title": f" {title}\n"})
                self.assertEqual((response.status_code, response.json["title"]), (201, title))

    def test_markup_is_text(self) -> None:
        title = '<img src=x onerror=alert(1)> & "quotes"'
        self.client.post(TASKS, json={"title": title})
        self.assertEqual(self.board()["tasks"][-1]["title"], title)

    def test_a_body_that_comes_in_pieces_is_read_to_its_length_and_no_further(self) -> None:
        sent = io.BytesIO(b'{"title":"in pieces"}POST ')
        body = mock.Mock(read=lambda size: sent.read(min(size, 4)), spec=["read"])
        environ = {"CONTENT_LENGTH": "21", "CONTENT_TYPE": "application/json", "wsgi.input": body}
        response = self.client.post(TASKS, environ_overrides=environ)
        self.assertEqual((response.status_code, response.json["title"]), (201, "in pieces"))
        self.assertEqual(sent.read(), b"POST ")

    def test_head_has_the_fields_of_get_and_no_body(self) -> None:
        for path in ("/boards", f"{TASKS}/task-1"):
            get, head = self.client.get(path), self.client.head(path)
            self.assertEqual((head.status, dict(head.headers)), (get.status, dict(get.headers)))
            self.assertEqual((head.data, head.headers["Content-Length"]), (b"", str(len(get.data))))

    def test_each_of_many_addresses_has_its_own_answer(self) -> None:
        # The routes of the last addresses are kept.
        for _ in range(2):
            for number in range(200):
                path = f"/boards/board-{number}/tasks"
                answer = self.client.post(path, json={"title": str(number)})
                self.assertEqual(answer.status_code, 201 if number == 1 else 404, path)
                self.assertEqual(self.client.get(path).status_code, 405)

    def test_a_route_is_that_of_the_host_and_of_the_place_of_the_app(self) -> None:
        environ = {"SERVER_NAME": "0.0.0.0"}  # this serves all hosts
        for place in ("", "/mounted"):
            options = {"environ_overrides": environ | {"SCRIPT_NAME": place}}
            for host, status in (("localhost", 308), (f"{'a' * 70}.example", 400), ("localhost", 308)):
                answer = self.client.get("/boards/board-1/", headers={"Host": host}, **options)
                self.assertEqual(answer.status_code, status)
                answer = self.client.get("/boards", headers={"Host": host}, **options)
                self.assertEqual(answer.status_code, 200 if status == 308 else 400)

    def test_a_charset_beside_the_type(self) -> None:
        body = '{"title":"Übung"}'.encode()
        response = self.client.post(TASKS, data=body, content_type="application/json; charset=utf-8")
        self.assertEqual(response.status_code, 201)


class FailureTest(RoutesCase):
    def make_client(self, error: Exception) -> Client:
        hub: Any = BrokenHub(error)
        return Client(BoardApp(hub))

    def test_a_log_that_cannot_be_reached(self) -> None:
        with self.assertLogs("sse_threaded.board.app", "WARNING"):
            client = self.make_client(LogUnavailable("sqlite:///secret", "locked; try again"))
            for response in (
                client.get("/healthz"),
                client.get("/boards/board-1", headers=JSON),
                client.get("/boards/board-1"),
                client.get("/boards"),
                client.post(TASKS, json={"title": "x"}),
                client.delete(f"{TASKS}/task-1"),
            ):
                self.assert_problem(response, 503)
                self.assertEqual(response.headers["Retry-After"], "2")
                self.assertNotIn("secret", response.text)

    def test_however_many_requests_fail_for_it_a_line_a_while_is_logged(self) -> None:
        for error, detail in (
            (LogUnavailable("sqlite:///secret", "locked; try again"), "try again soon"),
            (LogUnusable("sqlite:///secret", "the file is corrupt; restore it"), "tell its operator"),
            (NestedTransaction("sqlite:///secret"), "tell its operator"),
        ):
            with self.subTest(error=error), self.assertLogs("sse_threaded", "DEBUG") as logs:
                client = self.make_client(error)
                for _ in range(20):
                    response = client.post(TASKS, json={"title": "x"})
                    self.assertIn(detail, self.assert_problem(response, 503)["detail"])
                    self.assert_problem(client.get("/healthz"), 503)
            posts = [line for line in logs.output if "POST '/boards/board-1/tasks'" in line]
            self.assertEqual((len(posts), sum("unhealthy" in line for line in logs.output)), (1, 1), logs.output)
            self.assertNotIn("Traceback", "".join(logs.output))
            self.assertEqual([record.exc_info for record in logs.records if record.exc_info], [])

    def test_a_stream_is_not_refused_for_it(self) -> None:
        # EventSource would give up for good.
        with self.assertLogs("sse_threaded.board.app", "WARNING"):
            client = self.make_client(LogUnavailable("sqlite:///x", "locked; try again"))
        with self.assertLogs("sse_threaded.board.app", "WARNING") as told:
            for headers in ({}, {"Accept": "text/event-stream"}):
                answer = client.get("/boards/board-1/events", headers=headers)
                self.assertEqual((answer.status_code, answer.text), (200, "retry: 5000\n\n"))
            self.assert_problem(client.get("/boards/board-1/events", headers=JSON), 503)
        self.assertIn("GET '/boards/board-1/events': ", told.output[0])

    def test_what_nobody_expected_is_logged_and_not_told(self) -> None:
        with self.assertLogs("sse_threaded.board.app", "WARNING"):
            client = self.make_client(LogUnavailable("x", "y"))
        client.application.hub.log.error = RuntimeError("internal detail")
        with self.assertLogs("sse_threaded.board.app", "ERROR") as logs:
            response = client.get("/boards/board-1", headers=JSON)
        self.assert_problem(response, 500)
        self.assertNotIn("internal", response.text)
        self.assertIn("Traceback", "\n".join(logs.output))


class SettingsTest(unittest.TestCase):
    def test_the_log(self) -> None:
        self.assertEqual(log_url({}), "sqlite:///sse_threaded.db")
        self.assertEqual(log_url({"SSE_THREADED_URL": ""}), "sqlite:///sse_threaded.db")
        self.assertEqual(log_url({"SSE_THREADED_URL": "memory://"}), "memory://")

    def test_numbers(self) -> None:
        environ = {
            "SSE_THREADED_MAX_STREAMS": "56",
            "SSE_THREADED_HEARTBEAT": " 2.5 ",
            "SSE_THREADED_LEASE": "300",
            "SSE_THREADED_QUEUE_SIZE": "10",
            "SSE_THREADED_RETRY": "0",
        }
        wanted = {"max_streams": 56, "heartbeat": 2.5, "lease": 300.0, "queue_size": 10, "retry": 0}
        self.assertEqual(hub_settings(environ), wanted)
        self.assertEqual(hub_settings({"SSE_THREADED_RETRY": ""}), {})
        Hub("memory://", **hub_settings(environ)).close()

    def test_what_is_no_number(self) -> None:
        for name, text in (
            ("SSE_THREADED_MAX_STREAMS", "many"),
            ("SSE_THREADED_MAX_STREAMS", "0"),
            ("SSE_THREADED_MAX_STREAMS", "1.5"),
            ("SSE_THREADED_HEARTBEAT", "-1"),
            ("SSE_THREADED_HEARTBEAT", "nan"),
            ("SSE_THREADED_LEASE", "inf"),
            ("SSE_THREADED_QUEUE_SIZE", "ten"),
            ("SSE_THREADED_RETRY", "-5"),
        ):
            with self.subTest(name=name, text=text), self.assertRaises(SettingError) as caught:
                hub_settings({name: text})
            self.assertIn(f"{name}={text!r}", str(caught.exception))

    def test_the_app_reads_the_environment_and_arguments_win(self) -> None:
        environ = {"SSE_THREADED_URL": "memory://", "SSE_THREADED_MAX_STREAMS": "7"}
        with mock.patch.dict("os.environ", environ):
            for settings, limit in (({}, 7), ({"max_streams": 3}, 3)):
                app = create_app(**settings)
                self.addCleanup(app.hub.close)
                self.assertEqual(app.hub.url, "memory://")
                self.assertEqual(app.hub.health()["maxStreams"], limit)


class HostsTest(RoutesCase):
    """Which names the board answers to, by the address at which the server listens."""

    LOCAL = ("localhost", "LOCALHOST:3000", "localhost.:", "127.0.0.1:3000", "127.0.0.2", "[::1]", "[::1]:3000")
    FOREIGN = (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "[2001:db8::1]:3000",
    )

    def ask(
        self, host: str | None, server: str = "127.0.0.1", path: str = "/boards/board-1", **environ: str
    ) -> TestResponse:
        def with_this_host(environ: Any, start_response: Any) -> Any:
            environ.pop("HTTP_HOST")
            if host is not None:
                environ["HTTP_HOST"] = host
            return self.app(environ, start_response)

        # The test client of Werkzeug 3.0 fails for a malformed host.
        return Client(with_this_host).get(path, headers=JSON, environ_overrides={**environ, "SERVER_NAME": server})

    def make_app(self, *hosts: str) -> None:
        self.app = BoardApp(self.app.hub, hosts=checked_names(",".join(hosts)))

    def test_on_localhost_only_local_names_are_served(self) -> None:
        for server in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
            for host in self.LOCAL:
                with self.subTest(server=server, host=host):
                    self.assertEqual(self.ask(host, server).status_code, 200)
            for host in self.FOREIGN:
                with self.subTest(server=server, host=host):
                    told = self.assert_problem(self.ask(host, server), 421)
                    self.assertIn("SSE_THREADED_HOSTS", told["detail"])

    def test_elsewhere_all_names_are_served_unless_some_are_set(self) -> None:
        for server in ("0.0.0.0", "192.0.2.1", "::", ""):
            for host in (*self.LOCAL, *self.FOREIGN, None):
                with self.subTest(server=server, host=host):
                    self.assertEqual(self.ask(host, server).status_code, 200)

    def test_names_that_are_set_are_served_everywhere_and_so_is_localhost(self) -> None:
        self.make_app("board.example", ".example.org", "BÜCHER.example")
        served = (*self.LOCAL, "board.example", "Board.Example.:443", "example.org", "a.b.example.org")
        for server in ("127.0.0.1", "0.0.0.0", "192.0.2.1"):
            for host in (*served, "xn--bcher-kva.example"):
                with self.subTest(server=server, host=host):
                    self.assertEqual(self.ask(host, server).status_code, 200)
            for host in (*self.FOREIGN, "a.board.example", "notexample.org"):
                with self.subTest(server=server, host=host):
                    self.assert_problem(self.ask(host, server), 421)

    def test_a_star_is_for_all_names(self) -> None:
        self.make_app("*")
        for host in (*self.LOCAL, *self.FOREIGN, None):
            self.assertEqual(self.ask(host).status_code, 200)

    def test_a_host_that_is_missing_or_malformed_is_a_bad_request(self) -> None:
        for host in (
            None,
            "",
            "evil example",
            "localhost:x",
            "a,b",
            "a@localhost",
            "<b>",
            "x" * 5000,
        ):
            with self.subTest(host=host):
                self.assert_problem(self.ask(host), 400)

    def test_in_http_1_0_it_may_be_missing(self) -> None:
        self.assertEqual(self.ask(None, SERVER_PROTOCOL="HTTP/1.0").status_code, 200)
        self.assert_problem(self.ask("evil.example", SERVER_PROTOCOL="HTTP/1.0"), 421)

    def test_health_is_told_to_load_balancers_that_ask_by_address(self) -> None:
        self.make_app("board.example")
        for host in ("192.0.2.1:3000", "[2001:db8::1]", "board.example", "localhost"):
            with self.subTest(host=host):
                self.assertEqual(self.ask(host, "192.0.2.1", "/healthz").status_code, 200)
        self.assert_problem(self.ask("evil.example", "192.0.2.1", "/healthz"), 421)
        self.assert_problem(self.ask("192.0.2.1:3000", "192.0.2.1"), 421)

    def test_a_person_is_told_on_a_page_that_leads_nowhere(self) -> None:
        environ = {"HTTP_HOST": "evil.example", "SERVER_NAME": "127.0.0.1"}
        page = self.client.get("/", headers={"Accept": "text/html"}, environ_overrides=environ)
        self.assertEqual((page.status_code, page.mimetype), (421, "text/html"))
        self.assertIn("<h1>Misdirected Request</h1>", page.text)
        self.assertNotIn("<a ", page.text)

    def test_every_route_is_guarded(self) -> None:
        for method, path in (
            ("POST", TASKS),
            ("GET", "/"),
            ("GET", "/boards/board-1/events"),
            ("GET", "/nowhere"),
        ):
            with self.subTest(path=path):
                environ = {"HTTP_HOST": "evil.example", "SERVER_NAME": "127.0.0.1"}
                body = {"title": "x"} if method == "POST" else None
                answer = self.client.open(path, method=method, json=body, environ_overrides=environ)
                self.assert_problem(answer, 421)
        self.assertEqual(self.events(), [])

    def test_the_setting(self) -> None:
        self.assertEqual(trusted_hosts({}), [])
        names = trusted_hosts({"SSE_THREADED_HOSTS": " board.example, .Example.org ,, [::2] "})
        self.assertEqual(names, ["board.example", ".example.org", "[::2]"])
        for text in ("https://board.example", "board.example:443", "a b", "a/b", ".", "..", "ü" * 100):
            with self.subTest(text=text), self.assertRaises(SettingError):
                trusted_hosts({"SSE_THREADED_HOSTS": text})
        with mock.patch.dict("os.environ", {"SSE_THREADED_HOSTS": "board.example"}):
            self.app = create_app("memory://")
        self.addCleanup(self.app.hub.close)
        self.assertEqual(self.ask("board.example").status_code, 200)


class AddressTest(RoutesCase):
    def test_a_wrong_address_is_a_page_for_people_and_a_problem_for_programs(self) -> None:
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        for path in ("/boards/board-99", "/nowhere"):
            with self.subTest(path):
                page = self.client.get(path, headers=browser)
                self.assertEqual((page.status_code, page.mimetype), (404, "text/html"))
                self.assertIn('<a href="/boards/board-1">', page.get_data(as_text=True))
                self.assertIn("default-src 'none'", page.headers["Content-Security-Policy"])
                for accept in ("*/*", "application/json", "text/event-stream"):
                    self.assert_problem(self.client.get(path, headers={"Accept": accept}), 404)
                self.assert_problem(self.client.delete(path, headers=browser), 405 if "board" in path else 404)

    def test_whatever_else_goes_wrong_is_a_page_for_people_too(self) -> None:
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        page = self.client.get(TASKS, headers=browser)
        self.assertEqual((page.status_code, page.mimetype), (405, "text/html"))
        self.assertEqual((page.headers["Allow"], page.headers["Vary"]), ("POST", "Accept"))
        self.assertIn("<h1>Method Not Allowed</h1>", page.text)
        self.assertIn("GET does nothing here; use POST.", page.text)
        with self.assertLogs("sse_threaded.board.app", "WARNING"):
            client = Client(BoardApp(BrokenHub(LogUnavailable("sqlite:///secret", "locked; try again"))))
            page = client.get("/boards/board-1", headers=browser)
        self.assertEqual((page.status_code, page.mimetype, page.headers["Retry-After"]), (503, "text/html", "2"))
        self.assertIn("The board&#39;s store cannot be reached now", page.text)
        self.assertIn('<a href="">Try again</a>', page.text)
        self.assertEqual(int(page.headers["Content-Length"]), len(page.data))

    def test_a_slash_too_many_leads_to_the_board(self) -> None:
        response = self.client.get("/boards/board-1/")
        self.assertEqual((response.status_code, response.location), (308, "/boards/board-1"))


if __name__ == "__main__":
    unittest.main()
