"""URLs of a log in PostgreSQL: what is taken, what is refused, what is shown."""

from __future__ import annotations

import unittest

from sse_threaded import LogUnusable
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.url import parse_url
from sse_threaded.log.url import without_secret
from tests.postgres.server_case import everything_shown

ONCE = True

# A URL, and what is shown of it.
SHOWN = {
    "postgresql://": "postgresql://",
    "postgres:///db": "postgres:///db",
    "postgresql://host": "postgresql://host",
    "postgresql://host:5433/db": "postgresql://host:5433/db",
    "postgresql://me@host/db": "postgresql://host/db",
    "postgresql://me:secret@host/db": "postgresql://host/db",
    "postgresql://me:secret@a,b:5433,[::1]:5434/db": "postgresql://a,b:5433,[::1]:5434/db",
    "postgresql://me:se%40cr%2Fet@host/db?sslmode=require": "postgresql://host/db",
    "postgresql://me:se#cret@host/db": "postgresql://host/db",
    "postgresql://me@%2Frun%2Fpostgresql/db": "postgresql://%2Frun%2Fpostgresql/db",
    "postgresql:///db?host=/run/postgresql&password=secret": "postgresql:///db",
    "postgresql:///?service=main": "postgresql:///",
    "postgresql://me:secret@host/db?prefix=a_1&schema=Shop": "postgresql://host/db?prefix=a_1&schema=Shop",
    "postgresql://me@host/db?listen=postgresql%3A%2F%2Fme%3Asecret%40other%2Fdb": "postgresql://host/db",
}

# Invalid URLs with a password that nobody may see, and a part of the advice.
REFUSED = {
    "postgresql://me:secret": "write postgresql://",
    "postgresql://me:secret@host:secret/db": "write postgresql://",
    "postgresql:host/secret": "write postgresql://",
    "postgresql://me:sec@ret@host/db": "write @ as %40",
    "postgresql://me:sec/ret@host/db": "write @ as %40",
    "postgresql://me:sec?ret@host/db": "write @ as %40",
    "postgresql://me:secret@host/db?options=a=b": "an option is written name=value",
    "postgresql://me:secret@host/db?prefix=Upper": "?prefix= takes",
    "postgresql://me:secret@host/db?prefix=a%22b": "?prefix= takes",
    "postgresql://me:secret@host/db?schema=a.b": "?schema= takes",
    "postgresql://me:secret@host/db?prefix=a&prefix=b": "?prefix= is given twice",
    "postgresql://me:secret@host/db?listen=host%3Asecret": "?listen= is invalid",
    "postgresql://me:secret@host/db?listen=postgresql%3A%2F%2Fhost%2F%3Fprefix%3Da": "takes no prefix",
    "postgresql://me:secret@host/db\nsecret": "write postgresql://",
}

# Invalid for libpq only.
REFUSED_BY_LIBPQ = (
    "postgresql://me:secret@host/db?unknown=secret",
    "postgresql://me:se%ZZcret@host/db",
    "postgresql://me:secret@host/db?connect_timeout",
)


class UrlTest(unittest.TestCase):
    def test_the_url_is_shown_without_a_secret(self) -> None:
        for url, shown in SHOWN.items():
            with self.subTest(url):
                self.assertEqual(parse_url(url).url, shown)
                self.assertEqual(without_secret(url), shown.partition("?")[0])

    def test_no_field_that_is_shown_has_a_secret(self) -> None:
        address = parse_url("postgresql://me:s%40cret@host/db?sslpassword=other&listen=postgres://a%3Athird%40b")
        self.assertEqual(address.secrets, ("s@cret", "s%40cret", "other", "third"))
        for shown in (repr(address), repr(address.conninfo), repr(address.listen), repr([*address][:3])):
            for secret in address.secrets:
                self.assertNotIn(secret, shown)

    def test_libpq_gets_all_but_our_options(self) -> None:
        address = parse_url("postgres://me:s%40@a,b:1/db?prefix=x&sslmode=require&schema=y&application_name=z")
        self.assertEqual(str(address.conninfo), "postgresql://me:s%40@a,b:1/db?sslmode=require&application_name=z")
        self.assertEqual((address.prefix, address.schema), ("x", "y"))
        self.assertEqual(address.listen, address.conninfo)

    def test_the_listener_may_have_a_url_of_its_own(self) -> None:
        address = parse_url(
            "postgresql://pooler/db?listen=postgresql%3A%2F%2Fdirect%2Fdb%3Fsslmode%3Drequire&prefix=a"
        )
        self.assertEqual(str(address.conninfo), "postgresql://pooler/db")
        self.assertEqual(str(address.listen), "postgresql://direct/db?sslmode=require")

    def test_two_logs_of_one_database_have_different_bells_and_locks(self) -> None:
        urls = ("", "?prefix=other", "?schema=other", "?prefix=other&schema=other")
        addresses = [parse_url(f"postgresql:///db{each}") for each in urls]
        self.assertEqual(len({address.bell for address in addresses}), len(urls))
        self.assertEqual(len({address.role_key for address in addresses}), len(urls))
        longest = parse_url(f"postgresql:///db?prefix={'a' * 40}&schema={'b' * 63}")
        self.assertLessEqual(len(longest.bell), 50)  # a test message has nine more
        for address in addresses:
            self.assertTrue(-(2**63) <= address.role_key < 2**63)

    def test_invalid_urls_are_refused_without_a_secret(self) -> None:
        for url, advice in REFUSED.items():
            with self.subTest(url):
                with self.assertRaises(LogUnusable) as caught:
                    parse_url(url)
                self.assertIn(advice, str(caught.exception))
                for part in ("sec@", "secret", "sec/", "ret@", "ret"):
                    self.assertNotIn(part, str(caught.exception))

    def test_what_libpq_refuses_is_refused_without_a_secret(self) -> None:
        for url in REFUSED_BY_LIBPQ:
            with self.subTest(url):
                with self.assertRaisesRegex(LogUnusable, "libpq does not take|name=value") as caught:
                    PostgresClient(parse_url(url))
                self.assertNotIn("cret", everything_shown(caught.exception))

    def test_a_replica_will_not_do(self) -> None:
        for session in ("read-only", "standby", "prefer-standby"):
            client = PostgresClient(parse_url(f"postgresql://127.0.0.1:1/?target_session_attrs={session}"))
            with self.subTest(session), self.assertRaisesRegex(LogUnusable, "use read-write"):
                client.run("SELECT 1")


if __name__ == "__main__":
    unittest.main()
