"""The configuration of the Django app."""

from django.apps import AppConfig
from django.core import checks

from .checks import check_database, check_settings


class SSEThreadedConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The app ``sse_threaded.django``. It has no models; its migration makes the log's tables."""

    name = "sse_threaded.django"
    label = "sse_threaded"
    verbose_name = "Server-Sent Events"

    def ready(self) -> None:
        """Register the system checks."""
        checks.register(check_settings)
        checks.register(check_database, checks.Tags.database)
