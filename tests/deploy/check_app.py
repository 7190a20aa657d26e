"""An app for the tests of the check: each path is a stream and a channel; a POST of JSON publishes its title.

Streams whose path begins with ``/transformable-`` may be compressed on the way.
"""

import os
from collections.abc import Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub

hub = Hub("memory://", heartbeat=float(os.environ["HEARTBEAT"]), origins=["https://app.example"])


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer one request (PEP 3333)."""
    request = Request(environ)
    if request.path == "/healthz":
        response = Response("ok")
    elif request.method == "POST":
        hub.publish(request.path, request.get_json()["title"])
        response = Response(status=201)
    else:
        response = hub.stream(request, request.path)
        if request.path.startswith("/transformable-"):
            response.headers["Cache-Control"] = "no-cache"
    return response(environ, start_response)
