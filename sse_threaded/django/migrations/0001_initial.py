"""Makes the tables and functions of the event log in PostgreSQL. In SQLite the log makes its own."""

from django.db import migrations

from sse_threaded.django.operations import CreateLog


class Migration(migrations.Migration):  # type: ignore[misc]  # Django has no types
    """See Django."""

    initial = True
    operations = [CreateLog()]  # noqa: RUF012  # as Django has it
