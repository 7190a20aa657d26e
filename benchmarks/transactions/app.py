"""The app under gunicorn: ``/a,b`` is the stream of the channels a and b."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from sse_threaded import Hub, Retention

# The variable with the URL of the log.
URL = "TRANSACTIONS_URL"


def create_app() -> Callable[..., Iterable[bytes]]:
    """Return the app."""
    # All events are kept, as the comparison needs them.
    hub = Hub(os.environ[URL], retention=Retention(count=None, age=None), retry=100, heartbeat=5.0)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        channels = environ["PATH_INFO"].removeprefix("/").split(",")
        return hub.stream(environ, channels)(environ, start_response)

    return app
