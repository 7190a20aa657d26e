"""A password in a log's URL is repeated nowhere: in no error, traceback, repr, log line or health answer."""

import contextlib
import io
import json
import logging
import os
import traceback
import unittest
from unittest import mock

from sse_threaded import Hub, LogError, open_log
from sse_threaded.cli import main
from sse_threaded.log import without_secret
from sse_threaded.log.redis.errors import ErrorTranslator
from sse_threaded.log.redis.url import parse_url
from tests.harness.redis_server import RedisServer
from tests.support import free_port, temporary_directory

# In each, "hidden" or a part of it is a password, or may be one.
WRONG = (
    "redis://h:6379/0?hidden",
    "redis://h:6379/0?hidden=1",
    "redis://h:6379/0?password=hidden",
    "redis://h:6379/0?pa&hidden",
    "redis://:pa?hidden",
    "redis://h:1/0?prefix=a&hidden=2",
    "redis://h:1/0?prefix={hidden}",
    "redis://h/0?password=p@hidden",
    "redis://h/0?p@hidden:6379",
    "redis://h/hidden",
    "redis://h:hidden",
    "redis://user:hidden/0",
    "redis://user:hidden%40h:6379/0",
    "redis://:hi/hidden@h",
    "redis://:hi#hidden@h",
    "redis://:hi?hidden@h",
    "redis://h#hidden",
    "redis:user:hidden@h",
    "redis:/user:hidden@h",
    "redis:hidden",
    "rediss://h?ssl_keyfile=hidden",
    "rediss://h?ssl_ca_certs=hidden",
    "rediss://h?ssl_certfile=hidden",
    "rediss://h?ssl_cert_reqs=hidden",
    "rediss://h?hidden",
    "redis+other://:hidden@h",
    "redis+sentinel://h/service?hidden",
    "redis+sentinel://h/service?sentinel_passwort=hidden",
    "redis+sentinel://:hidden",
    "redis+cluster://:hidden@h/1",
    "sqlite:///log.db?key=hidden",
    "sqlite:///user:hidden@h/log.db",
    "sqlite://user:hidden@h/log.db",
    "sqlite:user:hidden@h",
    "mysql://user:hidden@h/db",
    "mysql://h/db?password=hidden",
    "mysql:user:hidden@h",
    "postgres:user:hidden@h",
    "postgresql://user:hidden/@h/db",
    "postgresql://user:hidden?@h/db",
    "postgresql://user:hidden@@h/db",
    "postgresql://user:hidden@h/db?prefix=A",
    "postgresql://h/db?password=hidden&schema=a.b",
    "postgresql://h/db?hidden",
    "postgresql://h/db?listen=postgresql%3A%2F%2Fuser:hidden@h",
    "postgresql://h/db?listen=mysql%3A%2F%2Fuser%3Ahidden%40h",
    "user:hidden@h:6379",
    "memory://hidden",
    "memory://?hidden",
    ":hidden@h",
)


class RefusedTest(unittest.TestCase):
    def test_no_error_repeats_what_may_be_one(self):
        for url in WRONG:
            with self.subTest(url=url):
                with self.assertRaises(LogError) as caught:
                    open_log(url)
                told = [str(caught.exception), repr(caught.exception), caught.exception.url, without_secret(url)]
                told += traceback.format_exception(caught.exception)
                for text in told:
                    # Of a traceback the lines of this file are left out.
                    self.assertNotIn("hidden", text)

    def test_what_is_no_secret_is_shown(self):
        for url in (
            "memory://",
            "sqlite:///log.db",
            "sqlite:////srv/me@home/log.db",
            "sqlite:///log.db?synchronous=normal",
            "redis://redis.internal:6379/0",
            "redis://[::1]:7/2",
            "rediss://h",
            "redis+cluster://a:7000,b:7001",
            "redis+sentinel://a,b:1/main-1/3",
            "/var/log.db",
            "",
        ):
            with self.subTest(url=url):
                self.assertEqual(without_secret(url), url)
        self.assertEqual(without_secret("redis://u:p%40@h:1/2?prefix=x"), "redis://h:1/2")
        self.assertEqual(without_secret("mysql://u:p@h/db"), "mysql://...")
        self.assertEqual(without_secret("postgresql://u:p%40@h:1,g/db?sslmode=require"), "postgresql://h:1,g/db")

    def test_a_command_does_not_either(self):
        for url in ("redis://h:6379/0?hidden", "redis:u:hidden@h", "postgresql://u:hidden@h/db?prefix=A"):
            for arguments in (["publish", "a", "x"], ["listen", "a"], ["--help"], ["publish", "--help"]):
                with (
                    self.subTest(url=url, arguments=arguments),
                    mock.patch.dict(os.environ, {"SSE_THREADED_URL": url}),
                    contextlib.redirect_stdout(io.StringIO()) as printed,
                    contextlib.redirect_stderr(printed),
                    contextlib.suppress(SystemExit),  # by --help
                ):
                    main(arguments)
                self.assertTrue(printed.getvalue())
                self.assertNotIn("hidden", printed.getvalue())


class ServerTest(unittest.TestCase):
    """A Redis that does not know AUTH repeats what it was given."""

    def test_a_redis_that_repeats_the_password(self):
        redis = RedisServer("--rename-command", "AUTH", "")
        self.addCleanup(redis.close)
        for user in ("", "user"):
            with self.subTest(user=user), self.assertRaisesRegex(LogError, "takes no password") as caught:
                open_log(f"redis://{user}:hidden-word@127.0.0.1:{redis.port}/0")
            self.assertNotIn("hidden", "".join(traceback.format_exception(caught.exception)))

    def test_a_sentinel_that_repeats_its_password(self):
        path = temporary_directory(self) / "sentinel.conf"
        path.write_text("")
        sentinel = RedisServer("--rename-command", "AUTH", "", sentinel=str(path))
        self.addCleanup(sentinel.close)
        hosts = f"127.0.0.1:{sentinel.port}"
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            log = open_log(f"redis+sentinel://{hosts}/main?sentinel_password=hidden-word")
        self.addCleanup(log.close)
        with self.assertRaises(LogError) as caught:
            log.last_sequence()
        shown = "".join(traceback.format_exception(caught.exception))
        self.assertNotIn("hidden", shown + str(logs.output))

    def test_an_error_with_the_password_in_it_is_shown_without(self):
        errors = ErrorTranslator(parse_url("redis://:hidden-word@h"))
        cut = "unknown command 'AUTH', with args beginning with: 'hidd"
        for said in ("no such user: hidden-word", cut):
            with self.subTest(said=said):
                error = ConnectionError(said)
                self.assertNotIn("hidd", str(errors.translate(error)))
                self.assertIsNone(errors.cause(error))
        plain = ConnectionError("connection refused")
        self.assertIs(errors.cause(plain), plain)


class ShownTest(unittest.TestCase):
    def test_a_hub_with_a_password_shows_it_nowhere(self):
        redis = RedisServer("--requirepass", "hidden-word")
        self.addCleanup(redis.close)
        with self.assertLogs(level=logging.DEBUG) as logs:
            logging.debug("one line")
            hub = Hub(f"redis://:hidden-word@127.0.0.1:{redis.port}/0")
            self.addCleanup(hub.close)
            hub.publish("a", "x")
            shown = [repr(hub), repr(hub.log), hub.url, hub.log.url, json.dumps(hub.health()), str(vars(hub.log))]
        for text in (*shown, *logs.output):
            self.assertNotIn("hidden", text)

    def test_neither_where_redis_is_away(self):
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            log = open_log(f"redis://:hidden-word@127.0.0.1:{free_port()}/0")
        self.addCleanup(log.close)
        with self.assertRaises(LogError) as caught:
            log.last_sequence()
        shown = "".join(traceback.format_exception(caught.exception))
        self.assertNotIn("hidden", shown + str(logs.output))

    def test_what_a_url_was_taken_apart_into(self):
        self.assertNotIn("hidden", repr(parse_url("redis+sentinel://:hidden@h/s?sentinel_password=hidden")))


if __name__ == "__main__":
    unittest.main()
