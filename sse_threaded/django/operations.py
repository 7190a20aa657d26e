"""The operation of the migration, which makes the log's tables and functions."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation

from ..log.postgres.installation import drop_statements, exists
from ..log.postgres.schema import statements
from ..log.postgres.url import Address
from .settings import log_settings


class CreateLog(Operation):  # type: ignore[misc]  # Django has no types
    """Make the log's tables in its own database; do nothing in other databases, and nothing if they exist."""

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """See Django. There are no models."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Make the tables and the functions; ``manage.py sqlmigrate`` prints the SQL."""
        address = _address_in(schema_editor.connection)
        if address is None:
            return
        if not schema_editor.collect_sql:
            with schema_editor.connection.cursor() as cursor:
                cursor.execute(exists(address))
                if cursor.fetchone()[0]:
                    return
        _execute(schema_editor, statements(address))

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Drop the tables and the functions; all events are lost."""
        address = _address_in(schema_editor.connection)
        if address is not None:
            _execute(schema_editor, drop_statements(address))

    def describe(self) -> str:
        """See Django."""
        return "Create the tables and functions of the event log"


def _address_in(connection: Any) -> Address | None:
    """Return the address of the log, if it is in this database."""
    settings = log_settings()
    if connection.alias != settings.database or connection.vendor != "postgresql":
        return None
    from .url import log_address  # noqa: PLC0415  # its driver may not be installed

    return log_address(connection, settings)


def _execute(schema_editor: Any, statements: list[str]) -> None:
    for each in statements:
        schema_editor.execute(each, params=None)  # without values, a sign % stands for itself
