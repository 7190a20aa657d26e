"""The configuration of the Django app."""

from django.apps import AppConfig
from django.core import checks
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

from .checks import check_database, check_settings
from .sqlite import make_log, open_early


class SSEThreadedConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The app ``sse_threaded.django``. It has no models; ``manage.py migrate`` makes the log's tables."""

    name = "sse_threaded.django"
    label = "sse_threaded"
    verbose_name = "Server-Sent Events"

    def ready(self) -> None:
        """Register the system checks, and the functions that make and open a log in SQLite."""
        connection_created.connect(open_early)
        post_migrate.connect(make_log)  # Django sends none for an app without models
        checks.register(check_settings)
        checks.register(check_database, checks.Tags.database)
