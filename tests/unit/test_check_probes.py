"""The probes of the check, and its command: against servers on sockets that answer as a test says."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import threading
import unittest
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest import mock

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.check.errors import CannotCheck
from sse_threaded.check.findings import findings
from sse_threaded.check.observations import End, Seen
from sse_threaded.check.probes import Check, Post, Settings
from sse_threaded.check.target import Target
from sse_threaded.cli import main
from sse_threaded.testing import LiveServer
from tests.harness.scripted_server import (
    Answer,
    Connection,
    ScriptedServer,
    chunk,
    head,
    pieces,
    redirect,
    refusal,
    reset,
    silent,
)
from tests.support import enter, free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ONCE = True  # it says the same under every Python

STREAM = "text/event-stream"
RIGHT = ("Cache-Control: no-cache, no-transform", "X-Accel-Buffering: no")
START = b"retry: 5000\nevent: stream-start\nid: kxqwzp-0\ndata: {}\n\n"
OK = pieces(head("200 OK", STREAM, *RIGHT))


def opened(*data: bytes) -> Answer:
    """A stream of these bytes that stays open."""
    return silent(head("200 OK", STREAM, *RIGHT), *data)


def event(event_id: str, data: str = "{}") -> bytes:
    return f"data: {data}\nid: {event_id}\n\n".encode()


def paced(*data: bytes, seconds: float = 0.2, begin: bytes = b"") -> Answer:
    """A stream of these bytes, with a time between two of them."""

    def answer(connection: Connection) -> None:
        connection.send(begin or head("200 OK", STREAM, *RIGHT))
        for piece in data:
            connection.send(piece)
            if connection.ending.wait(seconds):
                return
        connection.wait_for_client()

    return answer


class ProbeCase(unittest.TestCase):
    def setUp(self) -> None:
        enter(self, mock.patch("sse_threaded.check.probes._GLANCE", 0.2))

    def server(self, *answers: Answer) -> ScriptedServer:
        server = ScriptedServer(*answers)
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return server

    def seen(self, server: ScriptedServer, **options: object) -> Seen:
        settings = {"wait": 0.3, **options}
        return Check(Target.of(server.url), Settings(**settings)).run()  # type: ignore[arg-type]

    def codes(self, *answers: Answer, **options: object) -> set[str]:
        """The codes of a check, without those of every plain server."""
        found = findings(self.seen(self.server(*answers), **options))
        return {finding.code for finding in found} - {"http1", "no-heartbeat"}


class StreamTest(ProbeCase):
    def test_a_right_stream(self) -> None:
        self.assertEqual(self.codes(opened(START), opened(START), opened(START), OK), set())

    def test_the_request_is_that_of_a_browser(self) -> None:
        server = self.server(opened(START))
        self.seen(server, fields={"accept-encoding": "identity", "Cookie": "a=b"})
        fields = server.requests[0].fields
        self.assertEqual(fields["accept"], STREAM)
        self.assertEqual((fields["accept-encoding"], fields["cookie"]), ("identity", "a=b"))
        self.assertNotIn("last-event-id", fields)
        self.assertNotIn("origin", fields)

    def test_what_is_asked_in_which_order(self) -> None:
        server = self.server(opened(START), opened(START), opened(START), OK)
        self.seen(server)
        lines = [request.line for request in server.requests]
        self.assertEqual(lines, [*["GET /events HTTP/1.1"] * 3, "HEAD /events HTTP/1.1"])
        ids = [request.fields.get("last-event-id") for request in server.requests]
        self.assertEqual(ids, [None, "kxqwzp-0", "sse-threaded-check", None])

    def test_a_stream_that_is_refused_is_asked_nothing_more(self) -> None:
        server = self.server(refusal("503 Service Unavailable"))
        self.assertEqual([finding.code for finding in findings(self.seen(server))], ["status"])
        self.assertEqual(len(server.requests), 1)

    def test_the_wait_is_the_whole_time(self) -> None:
        seen = self.seen(self.server(paced(START, *[b":\n"] * 20, seconds=0.05)), wait=0.6)
        self.assertGreaterEqual(seen.first.seconds, 0.6)
        self.assertIs(seen.first.end, End.OPEN)

    def test_without_a_wait_two_heartbeats_are_enough(self) -> None:
        seen = self.seen(self.server(paced(START, *[b":\n"] * 50, seconds=0.1)), wait=None)
        self.assertEqual(seen.first.comments, 2)
        self.assertGreater(seen.wait, 60)

    def test_no_head(self) -> None:
        with mock.patch("sse_threaded.check.probes._PATIENCE", 0.3):
            self.assertEqual(self.codes(silent()), {"silent"})

    def test_no_body(self) -> None:
        self.assertEqual(self.codes(opened(), opened(), OK), {"silent"})

    def test_no_answer(self) -> None:
        self.assertEqual(self.codes(pieces()), {"no-answer"})

    def test_an_answer_that_is_not_http(self) -> None:
        self.assertEqual(self.codes(pieces(b"SSH-2.0-OpenSSH_9.2\r\n")), {"no-answer"})

    def test_a_cut_between_chunks_is_no_end(self) -> None:
        chunked = head("200 OK", STREAM, *RIGHT, "Transfer-Encoding: chunked")
        for name, last, code in (
            ("end", chunk(b""), "ended"),
            ("cut", b"", "cut"),
            ("half", b"50\r\nab", "cut"),
        ):
            with self.subTest(name):
                answers = [pieces(chunked, chunk(START), chunk(event("kxqwzp-1")), last), opened(), opened(), OK]
                self.assertEqual(self.codes(*answers), {code})

    def test_a_reset_is_a_cut(self) -> None:
        def answer(connection: Connection) -> None:
            connection.send(head("200 OK", STREAM, *RIGHT) + START)
            connection.ending.wait(0.2)  # so that the client reads before the reset takes the bytes away
            reset()(connection)

        self.assertEqual(self.codes(answer, opened(), opened(), OK), {"cut"})

    def test_a_cut_after_silence_is_a_time_out(self) -> None:
        chunked = head("200 OK", STREAM, *RIGHT, "Transfer-Encoding: chunked")

        def answer(connection: Connection) -> None:
            connection.send(chunked + chunk(START))
            connection.ending.wait(1.2)

        self.assertEqual(self.codes(answer, opened(), opened(), OK, wait=5.0), {"idle-timeout"})

    def test_heartbeats_that_come_together_were_collected(self) -> None:
        answer = paced(START, b"", b"", b"", b"", b"", b"", b":\n:\n:\n:\n")
        self.assertEqual(self.codes(answer, opened(), opened(), OK, wait=2.0), {"buffered"})

    def test_a_slow_farewell(self) -> None:
        farewell = b"retry: 1000\nevent: stream-end\ndata: {}\n\n"
        self.assertEqual(self.codes(opened(START, farewell), opened(), opened(), OK, wait=1.5), {"slow-farewell"})

    def test_an_app_that_is_full_is_asked_nothing_more(self) -> None:
        full = pieces(head("200 OK", STREAM), b"retry: 5000\nevent: stream-unavailable\ndata: {}\n\n")
        server = self.server(full)
        self.assertIn("unavailable", {finding.code for finding in findings(self.seen(server))})
        self.assertEqual(len(server.requests), 1)

    def test_without_a_server_there_is_no_check(self) -> None:
        target = Target.of(f"http://127.0.0.1:{free_port()}/events?ticket=secret")
        with self.assertRaises(CannotCheck) as caught:
            Check(target, Settings(wait=0.5)).run()
        self.assertIn("no connection", str(caught.exception))
        self.assertNotIn("secret", str(caught.exception))


class CodingTest(ProbeCase):
    def test_gzip_is_undone(self) -> None:
        body = gzip.compress(START + event("kxqwzp-1"))
        packed = silent(head("200 OK", STREAM, *RIGHT, "Content-Encoding: gzip"), body)
        seen = self.seen(self.server(packed))
        self.assertEqual((seen.first.coding, len(seen.first.events)), ("gzip", 2))
        self.assertIn("compressed", {finding.code for finding in findings(seen)})

    def test_an_unknown_coding_is_asked_for_again_without_it(self) -> None:
        server = self.server(
            silent(head("200 OK", STREAM, *RIGHT, "Content-Encoding: br"), b"\x0b"), opened(START)
        )
        seen = self.seen(server)
        self.assertEqual((seen.first.coding, seen.first.ids), ("br", ["kxqwzp-0"]))
        self.assertEqual(server.requests[1].fields["accept-encoding"], "identity")

    def test_broken_gzip(self) -> None:
        broken = silent(head("200 OK", STREAM, *RIGHT, "Content-Encoding: gzip"), b"no gzip at all")
        self.assertEqual(self.codes(broken, OK, OK), {"compressed"})


class RedirectTest(ProbeCase):
    def test_a_stream_behind_a_redirect(self) -> None:
        again = redirect("307 Temporary Redirect", "/events/")
        answers = [again, opened(START), again, opened(START), again, opened(START), OK]
        server = self.server(*answers)
        self.assertIn("redirected", {finding.code for finding in findings(self.seen(server))})
        self.assertEqual(server.requests[1].target, "/events/")

    def test_a_login_page(self) -> None:
        page = pieces(head("200 OK", "text/html"), b"<form>")
        server = self.server(redirect("302 Found", "/login?next=secret"), page)
        (finding,) = findings(self.seen(server))
        self.assertEqual(finding.code, "login")
        self.assertIn("/login?...", finding.text)

    def test_a_loop(self) -> None:
        self.assertEqual(self.codes(*[redirect("301 Moved Permanently", "/events")] * 22), {"redirect-loop"})

    def test_another_server_gets_no_secret(self) -> None:
        other = self.server(opened(START))
        first = self.server(redirect("302 Found", other.url))
        self.seen(first, fields={"Authorization": "Bearer secret"})
        self.assertIn("authorization", first.requests[0].fields)
        self.assertEqual(other.requests[0].fields["accept"], STREAM)
        self.assertNotIn("authorization", other.requests[0].fields)

    def test_a_redirect_to_no_address_is_the_answer(self) -> None:
        self.assertEqual(self.codes(redirect("302 Found", "ftp://127.0.0.1/")), {"status"})


class ResumeTest(ProbeCase):
    def check(self, first: Answer, resumed: Answer) -> set[str]:
        with mock.patch("sse_threaded.check.probes._PATIENCE", 1.0):
            return self.codes(first, resumed, opened(START), OK)

    def test_the_next_event(self) -> None:
        stream = opened(START, event("kxqwzp-1"), event("kxqwzp-2"))
        self.assertEqual(self.check(stream, opened(START, event("kxqwzp-2"))), set())

    def test_a_stream_that_begins_again(self) -> None:
        stream = opened(b"retry: 5000\n\n", event("a-1"), event("a-2"))
        self.assertEqual(self.check(stream, stream), {"resume"})

    def test_a_stream_that_forgets(self) -> None:
        stream = opened(START, event("kxqwzp-1"), event("kxqwzp-2"))
        self.assertEqual(self.check(stream, paced(START, event("kxqwzp-3"))), {"resume"})

    def test_an_id_that_breaks_the_server(self) -> None:
        broken = refusal("500 Internal Server Error")
        self.assertEqual(self.codes(opened(START), opened(START), broken, OK), {"unknown-id"})

    def test_head_without_an_answer(self) -> None:
        with mock.patch("sse_threaded.check.probes._PATIENCE", 0.3):
            self.assertEqual(self.codes(opened(START), opened(START), opened(START), silent()), {"head"})


class PostTest(ProbeCase):
    """The check publishes events itself, on a small app of this package."""

    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("sse_threaded.check.probes._PATIENCE", 2.0))

    def serve(self, **changes: Any) -> str:
        hub = Hub("memory://")
        self.addCleanup(hub.close)
        allowed = changes.get("allowed", True)
        later = changes.get("later", 0.0)
        is_resumed = changes.get("is_resumed", True)
        channel = changes.get("channel", "news")

        def publish(title: str) -> None:
            hub.publish(channel, title)

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            request = Request(environ)
            if request.method != "POST":
                if not is_resumed:
                    environ.pop("HTTP_LAST_EVENT_ID", None)
                response: Response = hub.stream(request, "news")
            elif not allowed:
                response = Response(status=403)
            else:
                timer = threading.Timer(later, publish, [request.get_json()["title"]])
                timer.start()
                if not later:
                    timer.join()
                response = Response(status=201)
            return response(environ, start_response)

        return enter(self, LiveServer(app)).url + "/"

    def check(self, url: str) -> tuple[Seen, set[str]]:
        target = Target.of(url)
        seen = Check(target, Settings(wait=0.5, post=Post(target, '{"title": "a {stamp}"}'))).run()
        return seen, {finding.code for finding in findings(seen)}

    def test_an_event_is_delivered_and_resumed(self) -> None:
        seen, codes = self.check(self.serve())
        assert seen.delivery is not None and seen.delivery.seconds is not None and seen.resumption is not None
        self.assertGreater(seen.delivery.seconds, 0)
        self.assertEqual(seen.resumption.sent_id, seen.delivery.event_id)
        self.assertEqual(codes & {"buffered", "slow-delivery", "post", "resume", "silent"}, set())

    def test_what_goes_wrong(self) -> None:
        cases: dict[str, dict[str, Any]] = {
            "post": {"allowed": False},
            "buffered": {"channel": "other"},
            "slow-delivery": {"later": 1.1},
            "resume": {"is_resumed": False},
        }
        urls = {code: self.serve(**changes) for code, changes in cases.items()}
        with ThreadPoolExecutor() as pool:
            found = {code: pool.submit(self.check, url) for code, url in urls.items()}
        for code in cases:
            with self.subTest(code):
                _, codes = found[code].result()
                self.assertEqual(codes & {*cases, "silent"}, {code})


class OriginTest(ProbeCase):
    ORIGIN = "https://app.example"

    def allowing(self, *fields: str) -> Answer:
        return silent(head("200 OK", STREAM, *RIGHT, *fields), START)

    def check(self, *answers: Answer, **fields: str) -> set[str]:
        return self.codes(*answers, origin=self.ORIGIN, fields=fields)

    def test_an_allowed_origin(self) -> None:
        allowed = self.allowing(f"Access-Control-Allow-Origin: {self.ORIGIN}", "Vary: Origin")
        server = self.server(allowed, opened(START), opened(START), OK, refusal("403 Forbidden"))
        seen = self.seen(server, origin=self.ORIGIN)
        self.assertEqual({finding.code for finding in findings(seen)} - {"http1", "no-heartbeat"}, set())
        origins = [request.fields.get("origin") for request in server.requests]
        self.assertEqual(origins, [self.ORIGIN, None, None, None, "https://sse-threaded-check.invalid"])

    def test_an_origin_that_is_not_allowed(self) -> None:
        for name, answers in (
            ("refused", (refusal("403 Forbidden"), opened(START))),
            ("ignored", (opened(START),)),
        ):
            with self.subTest(name):
                self.assertEqual(self.check(*answers, opened(START), opened(START), OK, opened(START)), {"cors"})

    def test_a_refusal_of_everyone_is_not_about_the_origin(self) -> None:
        self.assertEqual(self.check(refusal("401 Unauthorized"), refusal("401 Unauthorized")), {"status"})

    def test_a_field_of_the_page_is_asked_for_first(self) -> None:
        allowed = self.allowing(f"Access-Control-Allow-Origin: {self.ORIGIN}", "Vary: Origin")
        refused = refusal("403 Forbidden")
        granted = (f"Access-Control-Allow-Origin: {self.ORIGIN}", "Access-Control-Allow-Headers: authorization")
        for expected, preflight in (
            ({"cors-preflight"}, refusal("401 Unauthorized")),
            (set(), refusal("204 No Content", *granted)),
        ):
            with self.subTest(expected):
                server = self.server(allowed, opened(START), opened(START), OK, refused, preflight)
                seen = self.seen(server, origin=self.ORIGIN, fields={"Authorization": "Bearer secret"})
                self.assertEqual(
                    {finding.code for finding in findings(seen)} - {"http1", "no-heartbeat"}, expected
                )
                question = server.requests[-1]
                self.assertEqual(question.line, "OPTIONS /events HTTP/1.1")
                self.assertEqual(question.fields["access-control-request-headers"], "authorization")
                self.assertNotIn("authorization", question.fields)


class TargetTest(unittest.TestCase):
    def test_parts(self) -> None:
        for url, expected in (
            ("http://app.example", ("http", "app.example", 80, "/")),
            ("https://app.example/a/b?c=d#e", ("https", "app.example", 443, "/a/b?c=d")),
            ("https://[::1]:8443/ü x?q=%20ä", ("https", "::1", 8443, "/%C3%BC%20x?q=%20%C3%A4")),
        ):
            with self.subTest(url):
                target = Target.of(url)
                self.assertEqual((target.scheme, target.host, target.port, target.path), expected)
                self.assertEqual(Target.of(target.url), target)

    def test_no_secret_is_shown(self) -> None:
        self.assertEqual(str(Target.of("https://app.example/events?ticket=abc")), "https://app.example/events?...")
        with self.assertRaises(CannotCheck) as caught:
            Target.of("https://user:secret@app.example/")
        self.assertNotIn("secret", str(caught.exception))

    def test_redirects(self) -> None:
        target = Target.of("https://app.example:8443/a/b")
        for location, url in (
            ("/c", "https://app.example:8443/c"),
            ("c?d", "https://app.example:8443/a/c?d"),
            ("//other.example/", "https://other.example/"),
            ("http://other.example/", "http://other.example/"),
        ):
            with self.subTest(location):
                self.assertEqual(target.redirected(location).url, url)

    def test_loopback(self) -> None:
        for host, expected in (("localhost", True), ("127.0.0.3", True), ("[::1]", True), ("192.0.2.1", False)):
            with self.subTest(host):
                self.assertIs(Target.of(f"http://{host}/").is_loopback, expected)
        self.assertIs(Target.of("http://app.example/").is_loopback, False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class CommandTest(ProbeCase):
    def run_check(self, *arguments: str, terminal: bool = False) -> tuple[int, str, str]:
        errors = Terminal() if terminal else io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(errors):
            try:
                status = main(["check", *arguments])
            except SystemExit as end:
                status = int(end.code or 0)
        return status, output.getvalue(), errors.getvalue()

    def right(self) -> ScriptedServer:
        return self.server(paced(START, b":\n", b":\n"), opened(START), opened(START), OK)

    def test_status_0_without_a_fault(self) -> None:
        status, output, errors = self.run_check(self.right().url, "--wait", "0.7")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn(": 1 note\n", output)
        self.assertIn("note: http1", output)

    def test_status_1_after_a_fault(self) -> None:
        status, output, _ = self.run_check(self.server(refusal("404 Not Found")).url)
        self.assertEqual(status, 1)
        self.assertIn("fault: status\n", output)

    def test_status_1_after_a_warning_only_if_strict(self) -> None:
        for arguments, expected in (((), 0), (("--strict",), 1)):
            with self.subTest(arguments):
                server = self.server(opened(START), opened(START), opened(START), OK)
                status, output, _ = self.run_check(server.url, "--wait", "0.3", *arguments)
                self.assertIn("warning: no-heartbeat", output)
                self.assertEqual(status, expected)

    def test_status_2_if_it_cannot_be_checked(self) -> None:
        url = f"http://127.0.0.1:{free_port()}/"
        for arguments in ((url,), ("https" + url[4:],), ("ftp://a",), (url, "--cacert", "/missing.pem")):
            with self.subTest(arguments):
                status, output, errors = self.run_check(*arguments)
                self.assertEqual((status, output), (2, ""))
                self.assertTrue(errors.startswith("sse-threaded: "), errors)

    def test_invalid_options_are_explained_without_secrets(self) -> None:
        url = "http://127.0.0.1/events?ticket=hidden"
        for arguments, words in (
            (("--header", "hidden"), "write --header 'Name: value'"),
            (("--header", "a b: hidden"), "write --header 'Name: value'"),
            (("--header", "A: hidden\r\nB: c"), "write --header 'Name: value'"),
            (("--origin", "https://app.example/"), "write it as a browser does"),
            (("--post", url, "hidden"), "{stamp}"),
            (("--post", "nowhere", "{stamp}"), "not a URL"),
            (("--wait", "0"), "not a number of seconds above 0"),
        ):
            with self.subTest(arguments):
                status, _, errors = self.run_check(url, *arguments)
                self.assertEqual(status, 2)
                self.assertIn(words, errors)
                self.assertNotIn("hidden", errors)

    def test_json(self) -> None:
        status, output, _ = self.run_check(self.right().url, "--wait", "0.7", "--json")
        shown = json.loads(output)
        self.assertEqual(
            (status, shown["faults"], [found["code"] for found in shown["findings"]]), (0, 0, ["http1"])
        )
        self.assertEqual((shown["measured"]["retry_ms"], shown["measured"]["comments"]), (5000, 2))
        status, output, _ = self.run_check(f"http://127.0.0.1:{free_port()}/", "--json")
        self.assertEqual(status, 2)
        self.assertIn("no connection", json.loads(output)["error"])

    def test_a_terminal_shows_the_progress(self) -> None:
        _, output, errors = self.run_check(self.right().url, "--wait", "0.7", terminal=True)
        self.assertIn("\r[", errors)
        self.assertIn("listening", errors)
        self.assertTrue(errors.endswith("\r\x1b[K"), errors)
        self.assertNotIn("\r", output)

    def test_no_secret_is_shown(self) -> None:
        server = self.server(redirect("302 Found", "/login?next=hidden"), refusal("401 Unauthorized"))
        url = f"{server.url}?ticket=hidden"
        for arguments in ((), ("--json",)):
            _, output, errors = self.run_check(url, "--header", "Cookie: hidden", *arguments)
            self.assertNotIn("hidden", output + errors)
        self.assertEqual(server.requests[0].fields["cookie"], "hidden")

    def test_help(self) -> None:
        status, output, _ = self.run_check("--help")
        self.assertEqual(status, 0)
        for words in ("--post", "--origin", "examples:", "exit status"):
            self.assertIn(words, output)


if __name__ == "__main__":
    unittest.main()
