"""``sse-threaded publish``: lines, last events, and a publisher over HTTP."""

from __future__ import annotations

import io
import json
import subprocess
import unittest
from typing import Any
from unittest import mock

from werkzeug.wrappers import Request, Response

from sse_threaded import FINISHED, Hub, InvalidEvent
from sse_threaded.publisher import client as client_module
from sse_threaded.publisher.client import PublisherClient, PublishFailed
from sse_threaded.publisher.events import Event
from sse_threaded.publisher.lines import BATCH_LINES, batches_of_lines
from sse_threaded.testing import LiveServer
from tests.live.test_cli import COMMAND, CliCase
from tests.support import enter, free_port

TOKEN = "a-token-that-cannot-be-guessed"


class PublishCase(CliCase):
    def setUp(self) -> None:
        super().setUp()  # type: ignore[no-untyped-call]
        self.hub = enter(self, Hub(self.log_url))

    def found(self) -> list[tuple[str, str | None, str]]:
        """Channel, type and data of all events but those of the library."""
        records = [each for each in self.hub.log.read(0) if not each.channel.startswith("sse_threaded:")]
        return [(each.channel, each.event, each.data) for each in records]

    def run_publish(self, *arguments: str, **options: Any) -> Any:
        return self.run_command("publish", *arguments, **options)  # type: ignore[no-untyped-call]

    def call_publish(self, *arguments: str) -> Any:
        return self.call("publish", *arguments)  # type: ignore[no-untyped-call]


class LogTest(PublishCase):
    def test_the_last_event(self) -> None:
        ids = [self.call_publish("job-1", "--finish"), self.call_publish("job-2", '{"n":1}', "--finish")]
        self.assertEqual([done.stdout for done in ids], [f"{self.hub.log.event_id(n)}\n" for n in (1, 2)])
        self.assertEqual(self.found(), [("job-1", FINISHED, "{}"), ("job-2", FINISHED, '{"n":1}')])

    def test_lines_and_the_last_event(self) -> None:
        done = self.run_publish("build", "--lines", "--event", "line", "--finish", input="one\n\ntwo\r\nthree")
        ids = "".join(f"{self.hub.log.event_id(n)}\n" for n in range(1, 6))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, ids, ""))
        lines = [("build", "line", line) for line in ("one", "", "two", "three")]
        self.assertEqual(self.found(), [*lines, ("build", FINISHED, "{}")])

    def test_a_line_is_published_when_it_comes(self) -> None:
        command = [*COMMAND, "publish", "build", "-", "--lines"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env=self.env, cwd=self.directory, **pipes) as child:  # type: ignore[call-overload]
            self.addCleanup(child.kill)
            for number in range(1, 4):
                child.stdin.write(b"line\nbegun")
                child.stdin.flush()
                self.assertEqual(child.stdout.readline().decode().strip(), self.hub.log.event_id(number))
            child.stdin.close()
            self.assertEqual(child.wait(60), 0)
        self.assertEqual([data for _, _, data in self.found()], ["line", "begunline", "begunline", "begun"])

    def test_many_lines_are_few_transactions(self) -> None:
        text = "".join(f"{number}\n" for number in range(1050))
        done = self.run_publish("build", "--lines", input=text)
        self.assertEqual(done.stdout.count("\n"), 1050)
        self.assertEqual([data for _, _, data in self.found()][:3], ["0", "1", "2"])
        self.assertEqual(self.hub.log.last_sequence(), 1050)

    def test_no_lines_publish_nothing(self) -> None:
        done = self.run_publish("build", "--lines", input="")
        self.assertEqual((done.returncode, done.stdout, done.stderr, self.found()), (0, "", "", []))

    def test_a_line_that_is_not_utf8_comes_after_those_before_it(self) -> None:
        text = b"x\n" * BATCH_LINES + b"a\nb\xff\n"
        command = [*COMMAND, "publish", "build", "--lines"]
        done = subprocess.run(
            command, env=self.env, cwd=self.directory, input=text, capture_output=True, timeout=60, check=False
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr.decode(), f"sse-threaded: data: line {BATCH_LINES + 2} is not UTF-8 (byte 2); send text\n"
        )
        self.assertEqual(len(self.found()), BATCH_LINES)

    def test_arguments_that_do_not_fit_together(self) -> None:
        for arguments, words in (
            (["a"], "give DATA"),
            (["a", "x", "--lines"], "leave DATA out"),
            (["a", "--finish", "--event", "x"], "do not fit together"),
            (["a", "x", "--to", "http://127.0.0.1/"], "need each other"),
            (["a", "x", "--token-file", "t"], "need each other"),
        ):
            with self.subTest(arguments):
                done = self.call_publish(*arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(words, done.stderr)
        done = self.call_publish("sse_threaded:control", "x")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Asse-threaded: channel: .* belongs to the package\n\Z")
        self.assertEqual(self.found(), [])


class LinesTest(unittest.TestCase):
    def batches(self, *reads: bytes) -> list[list[str]]:
        stream = mock.Mock(read1=mock.Mock(side_effect=[*reads, b""]))
        return list(batches_of_lines(stream))

    def test_what_has_come_is_a_batch(self) -> None:
        self.assertEqual(self.batches(b"a\nb", b"c", b"\n\nd"), [["a"], ["bc", ""], ["d"]])
        self.assertEqual(self.batches("ü\r\n".encode()[:1], "ü\r\n".encode()[1:]), [["ü"]])
        self.assertEqual(self.batches(), [])

    def test_a_batch_is_bounded_in_lines_and_in_bytes(self) -> None:
        self.assertEqual([len(batch) for batch in self.batches(b"x\n" * 250)], [100, 100, 50])
        long = b"x" * 100_000 + b"\n"
        self.assertEqual([len(batch) for batch in self.batches(long * 3, b"y\n" * 3)], [1, 1, 1, 3])

    def test_a_line_without_end_is_refused_before_it_fills_the_memory(self) -> None:
        stream = mock.Mock(read1=lambda size: b"x" * size)
        with self.assertRaisesRegex(InvalidEvent, "line 1 is over"):
            list(batches_of_lines(stream))

    def test_faults_have_the_number_of_their_line(self) -> None:
        with self.assertRaisesRegex(InvalidEvent, "line 3 is not UTF-8 .byte 1."):
            self.batches(b"a\nb\n", b"\xff\n")


class HTTPTest(PublishCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = enter(self, LiveServer(self.hub.publisher(tokens={TOKEN: "build-*"})))
        (self.directory / "token").write_text(f"{TOKEN}\n")

    def call_to(self, *arguments: str, url: str | None = None) -> Any:
        return self.call_publish(*arguments, "--to", url or self.server.url, "--token-file", "token")

    def test_an_event_and_the_last_one(self) -> None:
        del self.env["SSE_THREADED_URL"]
        ids = [self.call_to("build-1", "x", "--event", "named"), self.call_to("build-1", "--finish")]
        expected = [("build-1", "named", "x"), ("build-1", FINISHED, "{}")]
        self.assertEqual(self.found(), expected)
        log = self.hub.log
        numbers = [each.sequence for each in log.read(0) if each.channel == "build-1"]
        self.assertEqual([done.stdout for done in ids], [f"{log.event_id(number)}\n" for number in numbers])

    def test_lines(self) -> None:
        options = ["--lines", "--to", self.server.url, "--token-file", "token"]
        done = self.run_publish("build-1", *options, input="".join(f"ü{n}\n" for n in range(250)))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.count("\n"), 250)
        found, after = [], 0
        while page := self.hub.log.read(after):
            found += [each.data for each in page if each.channel == "build-1"]
            after = page[-1].sequence
        self.assertEqual(found, [f"ü{number}" for number in range(250)])

    def test_the_longest_text_and_the_worst_escapes_fit_into_a_request(self) -> None:
        client = PublisherClient(self.server.url, TOKEN)
        client.publish([Event("build-1", "x" * 1024 * 1024, None)])
        (batch,) = [*batches_of_lines(io.BufferedReader(io.BytesIO(b"\x01" * 60_000 + b"\n")))]  # type: ignore[arg-type]
        client.publish([Event("build-1", line, None) for line in batch])

    def test_refusals_are_the_publishers_own_sentences(self) -> None:
        done = self.call_to("orders", "x")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(
            done.stderr, r'\Asse-threaded: http://.*"orders"; nothing was published\. \(status 403\)\n'
        )
        (self.directory / "token").write_text("another-token-of-nobody\n")
        done = self.call_to("build-1", "x")
        self.assertIn("This token is not known here", done.stderr)
        self.assertNotIn("another-token-of-nobody", done.stderr)

    def test_invalid_token_files(self) -> None:
        for content, words in (
            (b"", "must be letters"),
            (b"short", "at least 16 characters"),
            (b"two words of mine", "must be letters"),
            (b"\xff", "is not text"),
        ):
            with self.subTest(words):
                (self.directory / "token").write_bytes(content)
                done = self.call_to("build-1", "x")
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, rf"\Asse-threaded: the token file 'token'.*{words}.*\n\Z")
                self.assertNotIn("words of mine", done.stderr)
        (self.directory / "token").unlink()
        self.assertIn("cannot be read: No such file", self.call_to("build-1", "x").stderr)

    def test_invalid_addresses(self) -> None:
        for url in ("app.example/publish", "ftp://h/", "https://", "http://user:pass@h/"):
            with self.subTest(url):
                done = self.call_to("build-1", "x", url=url)
                self.assertEqual(done.returncode, 1)
                self.assertIn("such as https://app.example/publish", done.stderr)
                self.assertNotIn("pass@", done.stderr)


class ClientTest(unittest.TestCase):
    """The client of ``--to``, with servers that misbehave."""

    def setUp(self) -> None:
        self.requests: list[tuple[str | None, str | None, Any]] = []
        self.waits: list[float] = []
        patch = mock.patch.object(client_module, "time", mock.Mock(sleep=self.waits.append))
        patch.start()
        self.addCleanup(patch.stop)

    def start(self, *answers: Response) -> PublisherClient:
        rest = list(answers)

        @Request.application
        def app(web: Request) -> Response:
            key, token = web.headers.get("Idempotency-Key"), web.headers.get("Authorization")
            self.requests.append((key, token, web.get_json()))
            return rest.pop(0)

        return PublisherClient(enter(self, LiveServer(app)).url, TOKEN)

    def test_temporary_faults_are_tried_again_with_the_same_key(self) -> None:
        busy = [Response(status=503, headers={"Retry-After": "3"}), Response(status=502), Response(status=429)]
        client = self.start(*busy, Response('{"ids": ["e-1"]}', 201))
        self.assertEqual(client.publish([Event("a", "x", "named")]), ["e-1"])
        self.assertEqual(self.waits, [3.0, 2.0, 4.0])
        self.assertEqual(len(set(map(str, self.requests))), 1)
        key, token, body = self.requests[0]
        self.assertRegex(key or "", r'\A"[0-9a-f]{32}"\Z')
        self.assertEqual((token, body), (f"Bearer {TOKEN}", [{"channel": "a", "data": "x", "event": "named"}]))

    def test_each_call_has_another_key(self) -> None:
        client = self.start(*[Response('{"ids": ["e-1"]}', 201) for _ in range(2)])
        for _ in range(2):
            client.publish([Event("a", "x", None)])
        self.assertEqual(len({key for key, _, _ in self.requests}), 2)

    def test_faults_that_stay(self) -> None:
        busy = json.dumps({"detail": "The log cannot be reached now."})
        for answers, words in (
            (
                [Response(busy, 503, {"Retry-After": "999"}) for _ in range(4)],
                "cannot be reached now. .status 503",
            ),
            ([Response(status=404)], "status 404 .NOT FOUND.; this is not a publisher"),
            ([Response(status=302, headers={"Location": "/login"})], "status 302"),
            ([Response("<html>", 200)], "status 200; this is not a publisher"),
            ([Response("<html>", 201)], "the answer has no ids"),
            ([Response("[1]", 201)], "the answer has no ids"),
        ):
            with self.subTest(words), self.assertRaisesRegex(PublishFailed, words) as caught:
                self.waits.clear()
                self.start(*answers).publish([Event("a", "x", None)])
            self.assertNotIn(TOKEN, str(caught.exception))
            self.assertEqual(self.waits, [10.0] * (len(answers) - 1))

    def test_no_answer(self) -> None:
        client = PublisherClient(f"http://127.0.0.1:{free_port()}/", TOKEN)
        with self.assertRaisesRegex(PublishFailed, "no answer .*Connection refused.*; the events may be"):
            client.publish([Event("a", "x", None)])
        self.assertEqual(self.waits, [1.0, 2.0, 4.0])

    def test_the_token_does_not_go_to_another_address(self) -> None:
        other = self.start(Response('{"ids": ["e-1"]}', 201))
        first = self.start(Response(status=307, headers={"Location": other._url}))
        with self.assertRaisesRegex(PublishFailed, "status 307"):
            first.publish([Event("a", "x", None)])
        self.assertEqual(len(self.requests), 1)


if __name__ == "__main__":
    unittest.main()
