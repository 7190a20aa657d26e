"""The log's URL, from the settings of Django's database: libpq reads it as Django's own connection."""

from __future__ import annotations

import unittest
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from sse_threaded.log.postgres.url import parse_url
from tests.support import missing

try:
    import django.conf

    if not django.conf.settings.configured:
        django.conf.settings.configure()
    from django.db.backends.postgresql.base import DatabaseWrapper
    from django.db.utils import ConnectionHandler

    from sse_threaded.django.settings import LogSettings
    from sse_threaded.django.url import log_url
except ImportError:
    missing("django (pip install django)")


def url_of(settings: LogSettings | None = None, **database: Any) -> str:
    handler = ConnectionHandler(
        {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", **database}}
    )
    connection = handler["default"]
    assert isinstance(connection, DatabaseWrapper)
    return log_url(connection, settings or LogSettings())


class UrlTest(unittest.TestCase):
    def assert_is(self, url: str, **expected: str) -> None:
        found = conninfo_to_dict(parse_url(url).conninfo)
        self.assertEqual({name: value for name, value in found.items() if value}, expected)

    def test_as_most_projects_have_it(self) -> None:
        url = url_of(USER="shop", PASSWORD="secret", HOST="db", PORT="5433")
        self.assertEqual(url, "postgresql://shop:secret@db:5433/shop")
        self.assert_is(url, user="shop", password="secret", host="db", port="5433", dbname="shop")

    def test_a_name_alone(self) -> None:
        self.assertEqual(url_of(), "postgresql:///shop")
        self.assert_is(url_of(), dbname="shop")

    def test_a_port_of_another_type(self) -> None:
        self.assert_is(url_of(HOST="db", PORT=5433), host="db", port="5433", dbname="shop")

    def test_each_character_of_names_and_passwords(self) -> None:
        odd = "".join(map(chr, range(33, 127))) + "ü€"
        url = url_of(NAME=odd[:60], USER=odd, PASSWORD=odd, HOST="db")
        self.assert_is(url, dbname=odd[:60], user=odd, password=odd, host="db")

    def test_no_secret_is_shown(self) -> None:
        address = parse_url(url_of(USER="shop", PASSWORD="hidden", HOST="db", OPTIONS={"sslpassword": "hidden"}))
        self.assertNotIn("hidden", address.url + repr(address))

    def test_several_hosts(self) -> None:
        url = url_of(HOST="one,two", PORT="5432,5433", OPTIONS={"target_session_attrs": "read-write"})
        self.assert_is(url, host="one,two", port="5432,5433", dbname="shop", target_session_attrs="read-write")
        self.assert_is(url_of(HOST="one,two", PORT="5432"), host="one,two", port="5432,5432", dbname="shop")

    def test_addresses_and_sockets(self) -> None:
        self.assert_is(url_of(HOST="::1", PORT="5432"), host="::1", port="5432", dbname="shop")
        self.assert_is(
            url_of(HOST="/run/postgresql", PORT="5432"), host="/run/postgresql", port="5432", dbname="shop"
        )
        self.assert_is(url_of(HOST="@abstract", USER="shop"), host="@abstract", user="shop", dbname="shop")

    def test_options_of_libpq_and_of_django(self) -> None:
        options = {
            "sslmode": "verify-full",
            "connect_timeout": 3,
            "options": "-c search_path=app,public -c work_mem=1MB",
            "isolation_level": 3,
            "server_side_binding": True,
            "client_encoding": "UTF8",
        }
        self.assert_is(
            url_of(OPTIONS=options),
            dbname="shop",
            sslmode="verify-full",
            connect_timeout="3",
            options="-c search_path=app,public -c work_mem=1MB",
        )

    def test_a_service(self) -> None:
        options = {"service": "shop", "passfile": ".pgpass"}
        self.assert_is(url_of(NAME="", OPTIONS=options), service="shop", passfile=".pgpass")

    def test_a_role_that_django_assumes(self) -> None:
        url = url_of(OPTIONS={"assume_role": "the owner", "options": "-c work_mem=1MB"})
        self.assert_is(url, dbname="shop", options="-c work_mem=1MB -c role=the\\ owner")

    def test_the_settings_of_the_log(self) -> None:
        address = parse_url(url_of(LogSettings(schema="Events", prefix="shop_log"), HOST="db"))
        self.assertEqual((address.schema, address.prefix), ("Events", "shop_log"))
        self.assertEqual(address.listen, address.conninfo)

    def test_the_connection_that_listens(self) -> None:
        listen = {"HOST": "direct", "PORT": 5432, "OPTIONS": {"sslmode": "require"}}
        database = {"USER": "shop", "PASSWORD": "a@b", "HOST": "pool", "PORT": "6432"}
        url = url_of(LogSettings(listen=listen), **database, OPTIONS={"sslmode": "disable"})
        found = conninfo_to_dict(parse_url(url).listen)
        expected = {"user": "shop", "password": "a@b", "host": "direct", "port": "5432", "dbname": "shop"}
        self.assertEqual(found, {**expected, "sslmode": "require"})
        self.assert_is(url, **{**expected, "host": "pool", "port": "6432", "sslmode": "disable"})
        self.assertNotIn("a%40b", repr(parse_url(url)))


if __name__ == "__main__":
    unittest.main()
