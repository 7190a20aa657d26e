"""The fast way to read a request gives what gunicorn's own parser gives, or leaves the request to it."""

from __future__ import annotations

import importlib.util
import io
import os
import unittest
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

from gunicorn import version_info
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server.answering import Answering
from sse_threaded.server.connection import Connection
from tests.harness.generated_requests import CLIENTS, HONEST, SERVERS, SETTINGS, GeneratedRequest, generate

SEED = int(os.environ.get("SSE_TESTS_SEED", "20261127"))
COUNT = int(os.environ.get("SSE_TESTS_REQUESTS", "6000"))

# The keys of the environ that are not compared as they are.
# wsgi.errors: one object for all requests, which writes to the same streams.
# wsgi.input: what it reads is compared. wsgi.early_hints: made with the response, for all requests alike.
# wsgi.multithread: False in gunicorn's; its workers with threads set True later.
OBJECTS = ("wsgi.errors", "wsgi.input", "wsgi.early_hints", "wsgi.multithread")

PARSERS = ("python", "auto") if importlib.util.find_spec("gunicorn_h1c") else ("python",)


# gunicorn 23 knows no networks, and one kind of PROXY lines.
BEFORE_24 = {"10.0.0.0/8,::1": "10.9.8.7,::1", "auto": True}


def make_cfg(settings: dict[str, Any], parser: str = "python") -> Config:
    cfg = Config()
    for name, value in {**settings, "http_parser": parser}.items():
        if name in cfg.settings:  # older releases have fewer
            cfg.set(name, BEFORE_24.get(str(value), value) if version_info < (24,) else value)
    return cfg


def make_answering(cfg: Config) -> Answering:
    log = SimpleNamespace(error_log=mock.Mock(isEnabledFor=lambda level: False))
    return Answering(SimpleNamespace(cfg=cfg, log=log), SimpleNamespace(reads=True))  # type: ignore[arg-type]


def described(req: Any, environ: dict[str, Any]) -> dict[str, Any]:
    """All that an app, a hook or a log can see of a request."""
    body = environ["wsgi.input"].read()
    return {
        "environ": {key: value for key, value in environ.items() if key not in OBJECTS},
        "body": body,
        "closes": req.should_close(),
        **{
            name: getattr(req, name)
            for name in (
                "method",
                "uri",
                "path",
                "query",
                "fragment",
                "version",
                "headers",
                "scheme",
                "must_close",
            )
        },
        "peer": (req.peer_addr, req.remote_addr, req.proxy_protocol_info, req.req_number),
    }


class Pair:
    """Both ways to read, with the same settings."""

    def __init__(self, settings: dict[str, Any], parser: str = "python") -> None:
        self.cfg = make_cfg(settings, parser)
        self.answering = make_answering(self.cfg)

    def ours(self, case: GeneratedRequest) -> dict[str, Any] | None:
        """``None`` if the request is left to gunicorn."""
        found = taken(self, case)
        return None if found is None else {**described(*found), "rest": found[0].unreader.read()}

    def gunicorns(self, case: GeneratedRequest) -> dict[str, Any] | Exception | None:
        """gunicorn's error if it refuses the request, ``None`` if there is none."""
        try:
            req, environ = parsed(self, case)
            return {**described(req, environ), "rest": req.unreader.read()}
        except (ParseException, NoMoreData, wsgi.ConfigurationProblem) as error:
            refused: Exception = error
            return refused
        except StopIteration:
            return None


def taken(pair: Pair, case: GeneratedRequest) -> Any:
    """The request and its environ, read the fast way; ``None`` if it is left to gunicorn."""
    conn = Connection(SOCKET, case.client, case.server)
    conn.received, conn.requests = case.data, case.number
    found = pair.answering._reader.read(conn, pair.answering._environ)
    if found is not None:
        pair.answering._complete(found[1], conn, found[0])
    return found


def parsed(pair: Pair, case: GeneratedRequest) -> tuple[Any, dict[str, Any]]:
    """The same, by gunicorn."""
    parser = RequestParser(pair.cfg, iter([case.data]), case.client)
    parser.req_count = case.number - 1
    req = next(parser)
    return req, wsgi.create(req, SOCKET, case.client, case.server, pair.cfg)[1]


class Sink:
    """Takes what wsgi.create() sends: 100 Continue."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data


SOCKET: Any = Sink()


def named(case: GeneratedRequest) -> str:
    return f"{case._replace(data=case.data[:1500])} with {SETTINGS[case.settings]}"


class GeneratedTest(unittest.TestCase):
    """Thousands of them; SSE_TESTS_SEED and SSE_TESTS_REQUESTS choose others."""

    maxDiff = None

    def test_what_is_taken_is_what_gunicorn_reads(self) -> None:
        for parser in PARSERS:
            # One reader for many requests, so that what it remembers of one shows in the others.
            pairs = [Pair(settings, parser) for settings in SETTINGS]
            taken = refused = 0
            for case in generate(SEED, COUNT):
                pair = pairs[case.settings]
                SOCKET.sent = b""
                ours = pair.ours(case)
                if ours is None:
                    refused += 1
                    continue
                taken += 1
                self.assertEqual(ours, pair.gunicorns(case), f"seed {SEED}, {parser}: {named(case)}")
                self.assertEqual((ours["rest"], SOCKET.sent), (b"", b""), named(case))
            # Both kinds must be many, or the test says nothing.
            self.assertGreater(taken, COUNT / 5)
            self.assertGreater(refused, COUNT / 5)

    def test_nearly_all_plain_requests_are_taken(self) -> None:
        pair = Pair({})
        plain = [case for case in generate(SEED + 1, COUNT) if case.is_plain]
        left = [case.data for case in plain if pair.ours(case) is None]
        self.assertLess(len(left), len(plain) / 50, left[:5])


class HonestTest(unittest.TestCase):
    def test_the_requests_of_usual_programs_are_taken(self) -> None:
        for parser in PARSERS:
            pair = Pair({}, parser)
            for name, data in HONEST.items():
                for client in CLIENTS:
                    for server in SERVERS:
                        case = GeneratedRequest(True, 0, client, server, 1, data)
                        ours = pair.ours(case)
                        self.assertIsNotNone(ours, name)
                        self.assertEqual(ours, pair.gunicorns(case), name)

    def test_what_gunicorn_has_a_rule_for_is_left_to_it(self) -> None:
        pair = Pair({})
        for line in (
            b"Expect: 100-continue",
            b"Transfer-Encoding: chunked",
            b"Upgrade: h2c",
            b"Trailer: X",
            b"A_B: c",
        ):
            self.assertIsNone(pair.ours(get(line)), line)

    def test_the_first_request_after_a_proxy_line_is_left_to_gunicorn(self) -> None:
        pair = Pair({"proxy_protocol": "auto"})
        self.assertIsNone(pair.ours(get()))
        self.assertEqual(pair.ours(get()._replace(number=2)), pair.gunicorns(get()._replace(number=2)))

    def test_all_that_gunicorns_request_has_is_there(self) -> None:
        # Hooks and loggers get it. What only gunicorn's parser uses is left out.
        internal = {"limit_request_line", "limit_request_fields", "limit_request_field_size", "max_buffer_headers"}
        internal |= {"_use_fast", "_fast_limit_request_line"}
        pair = Pair({})
        ours, _ = taken(pair, get())
        theirs = Request(pair.cfg, IterUnreader([get().data]), CLIENTS[0])
        for name, value in vars(theirs).items():
            if name in internal:
                continue
            found = getattr(ours, name)
            if name in ("unreader", "body"):
                self.assertIs(type(found), type(value))
            else:
                self.assertEqual(list(found) if name == "trailers" else found, value, name)

    def test_up_to_the_limits_a_request_is_plain(self) -> None:
        pair, few = Pair({}), Pair({"limit_request_fields": 5})
        for count, ours, theirs in ((50, pair, True), (51, pair, False), (5, few, True), (6, few, False)):
            case = get(*(b"X-%d: y" % number for number in range(count)))
            self.assertEqual(ours.ours(case) is not None, theirs, count)
        start = len(b"GET / HTTP/1.1\r\nX: ")
        for length, is_plain in ((4000, True), (4001, False)):
            self.assertEqual(pair.ours(get(b"X: " + b"y" * (length - start))) is not None, is_plain)
        for name in ("limit_request_line", "limit_request_field_size"):
            limited, case = Pair({name: 60}), get(b"X: y")
            for old, long in ((b"/", b"/" + b"x" * 50), (b"y", b"y" * 60)):
                longer = case._replace(data=case.data.replace(old, long, 1))
                self.assertIsNotNone(limited.ours(case))
                self.assertIsNone(limited.ours(longer))
        for digits, is_plain in ((9, True), (10, False)):
            case = get(b"Content-Length: " + b"0" * (digits - 1) + b"3")
            self.assertEqual(pair.ours(case._replace(data=case.data + b"abc")) is not None, is_plain)


class SchemeTest(unittest.TestCase):
    def test_it_is_believed_of_trusted_clients_only(self) -> None:
        pair = Pair({"forwarded_allow_ips": "10.0.0.0/8,::1"})
        for client, scheme in (
            (("10.9.8.7", 1), "https"),
            (("11.9.8.7", 1), "http"),
            (("::1", 1, 0, 0), "https"),
            (("::2", 1, 0, 0), "http"),
            ("", "https"),  # a Unix socket
        ):
            for _ in range(2):  # the second time it is remembered
                found = pair.ours(get(b"X-Forwarded-Proto: https")._replace(client=client))
                assert found is not None
                self.assertEqual(found["environ"]["wsgi.url_scheme"], scheme, client)

    def test_fields_that_may_contradict_each_other_are_left_to_gunicorn(self) -> None:
        self.assertIsNone(Pair({}).ours(get(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off")))

    def test_no_setting_makes_the_question_fail(self) -> None:
        for settings in (
            {"secure_scheme_headers": {"X_SCHEME": "https", "X-SCHEME": "on"}},
            {"secure_scheme_headers": {"X-SCHEME": "\u20ac", "X-FORWARDED-PROTO": "https"}},
            {"limit_request_line": 14, "limit_request_field_size": 24},
            {"limit_request_line": 14, "limit_request_field_size": 25},
            {"limit_request_line": 14, "limit_request_field_size": 26},
            {"limit_request_fields": 1},
        ):
            pair = Pair(settings)
            for line in (b"X-Scheme:on", b"X-Forwarded-Proto:https", b"X-Forwarded-Proto:"):
                case = get(line)
                ours = pair.ours(case)
                if ours is not None:
                    self.assertEqual(ours, pair.gunicorns(case), (settings, line))


class AccessLogTest(unittest.TestCase):
    def test_its_line_is_the_same(self) -> None:
        pair = Pair({})
        logger = Logger.__new__(Logger)  # without its setup, which changes the process's logging
        lines = (b"Authorization: Basic YTpi", b"Referer: /x", b"User-Agent: y", b"X-Forwarded-For: z")
        for data in (*HONEST.values(), get(*lines).data):
            case = get()._replace(data=data)
            both = []
            for req, environ in (taken(pair, case), parsed(pair, case)):
                resp = wsgi.Response(req, SOCKET, pair.cfg)
                resp.status, resp.headers = "200 OK", [("X", "y")]
                atoms = logger.atoms(resp, req, environ, timedelta(seconds=1))
                for key in ("{wsgi.errors}e", "{wsgi.input}e", "{wsgi.early_hints}e", "{wsgi.multithread}e", "t"):
                    atoms.pop(key, None)
                both.append(atoms)
            self.assertEqual(*both)


class ErrorStreamTest(unittest.TestCase):
    def test_an_app_that_closes_it_takes_it_from_nobody(self) -> None:
        answering = make_answering(make_cfg({"errorlog": "-"}))
        stream = answering._environ["wsgi.errors"]
        with mock.patch("sys.stderr", io.StringIO()) as written:
            with stream:
                stream.write("one\n")
            stream.close()
            stream.flush()
            stream.writelines(["two\n", "three\n"])
            stream.flush()
        self.assertEqual(written.getvalue(), "one\ntwo\nthree\n")


class RememberedTest(unittest.TestCase):
    def test_hostile_clients_do_not_fill_the_memory(self) -> None:
        pair = Pair({})
        reader = pair.answering._reader
        for number in range(6000):
            line, long_line = b"X-%d: y" % number, b"Y: %d" % number + b"z" * 300
            scheme = b"X-Forwarded-Proto: https"
            pair.ours(get(line, long_line, scheme)._replace(client=(f"10.1.{number >> 8}.{number & 255}", 1)))
            self.assertLessEqual(len(reader._fields), 2048)
            self.assertLessEqual(len(reader._trusted), 2048)
        self.assertLessEqual(max(map(len, reader._fields)), 256)

    def test_the_same_lines_are_read_once(self) -> None:
        pair = Pair({})
        reader = pair.answering._reader
        lines = [b"X-%d: y" % number for number in range(40)]
        lines += [b"X-Forwarded-Proto: https", b"Y: " + b"y" * 253, b"Z: " + b"z" * 254]
        for client in CLIENTS[:3]:
            self.assertIsNotNone(pair.ours(get(*lines)._replace(client=client)))
        self.assertEqual(list(reader._fields), lines[:-1])  # the last one is too long
        self.assertEqual(len(reader._trusted), 2)  # by address: two clients have the same

    def test_of_an_invalid_line_nothing_is_remembered(self) -> None:
        pair = Pair({})
        for line in (b"X Y: z", b"Content-Length: +5", b"Expect: 100-continue", b"X: \0", b"NoColon", b"X_Y: z"):
            self.assertIsNone(pair.ours(get(line)))
        self.assertEqual(pair.answering._reader._fields, {})

    def test_values_of_one_client_do_not_reach_another(self) -> None:
        pair = Pair({})
        for value in (b"a", b"b", b"a"):
            found = pair.ours(get(b"Cookie: " + value))
            assert found is not None
            self.assertEqual(found["environ"]["HTTP_COOKIE"], value.decode())
        self.assertEqual(set(pair.answering._environ) & {"HTTP_COOKIE", "REQUEST_METHOD", "REMOTE_ADDR"}, set())


def get(*lines: bytes) -> GeneratedRequest:
    data = b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])
    return GeneratedRequest(True, 0, CLIENTS[0], SERVERS[0], 1, data)


if __name__ == "__main__":
    unittest.main()
