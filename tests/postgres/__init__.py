"""Tests that need PostgreSQL, and some that need PgBouncer."""

from tests.support import require

require(
    "tests/postgres",
    modules={"psycopg": "pip install '.[postgres]'"},
    programs={"pg_ctlcluster": "apt-get install postgresql"},
)
