"""The SQL beside that which makes a log: is it there, who may use it, and how to remove it.

The names of the tables and functions are read from the SQL that makes them, so no list can become old.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .schema import name, statements
from .url import Address

# Each process may number events, trim old ones, and begin a new epoch.
ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE")

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS ([^\s(]+)")
_FUNCTION = re.compile(r"CREATE OR REPLACE FUNCTION ([^\s(]+)")


class Objects(NamedTuple):
    """The objects of a log in PostgreSQL, by their names for SQL.

    :ivar tables: the tables.
    :ivar functions: the functions.
    """

    tables: list[str]
    functions: list[str]


def objects(address: Address) -> Objects:
    """Return the tables and functions of a log.

    :param address: the log's.
    """
    text = ";\n".join(statements(address))
    return Objects(_TABLE.findall(text), _FUNCTION.findall(text))


def exists(address: Address) -> str:
    """Return a query whose only value says whether the log's tables exist.

    :param address: the log's.
    """
    return f"SELECT to_regclass('{name(address, 'state')}') IS NOT NULL"


def drop_statements(address: Address) -> list[str]:
    """Return the statements that remove a log with all its events. Its schema stays.

    :param address: the log's.
    """
    found = objects(address)
    return [
        f"DROP FUNCTION IF EXISTS {', '.join(found.functions)}",
        f"DROP TABLE IF EXISTS {', '.join(found.tables)}",
    ]


def grants(address: Address, role: str) -> list[str]:
    """Return the statements that give a role the privileges that a process of the app needs.

    :param address: the log's.
    :param role: the name of the role, as it is.
    """
    found = objects(address)
    quoted = '"' + role.replace('"', '""') + '"'
    return [
        f'GRANT USAGE ON SCHEMA "{address.schema}" TO {quoted}',
        f"GRANT {', '.join(ON_TABLES)} ON {', '.join(found.tables)} TO {quoted}",
        f"GRANT EXECUTE ON FUNCTION {', '.join(found.functions)} TO {quoted}",
    ]


def lacking_privileges(address: Address) -> str:
    """Return a query whose rows name the privileges that the role of its connection lacks.

    :param address: the log's.
    """
    found = objects(address)
    schema = address.schema
    rows = [f"('\"{schema}\"', 'USAGE', has_schema_privilege('{schema}', 'USAGE'))"]
    for each in found.tables:
        rows += [f"('{each}', '{right}', has_table_privilege('{each}', '{right}'))" for right in ON_TABLES]
    for each in found.functions:
        rows.append(f"('{each}', 'EXECUTE', has_function_privilege('{each}'::regproc, 'EXECUTE'))")
    return (
        "SELECT string_agg(needed.privilege, ', ') || ' on ' || needed.object "
        f"FROM (VALUES {', '.join(rows)}) AS needed (object, privilege, is_there) "
        "WHERE NOT needed.is_there GROUP BY needed.object ORDER BY needed.object"
    )
