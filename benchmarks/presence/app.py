"""The app of the deploy: one channel for all, or channels of fifty users; with presence or without."""

from __future__ import annotations

import os

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub

hub = Hub(os.environ["LOG"])
_HAS_PRESENCE = os.environ["PRESENCE"] == "1"


@Request.application
def app(web: Request) -> Response:
    """Stream ``/CHANNEL?user=NAME``."""
    return hub.stream(web, web.path.strip("/"), user=web.args.get("user"), presence=_HAS_PRESENCE)
