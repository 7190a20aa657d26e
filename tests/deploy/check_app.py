"""An app for the tests of the check: each path is a stream and a channel; a POST of JSON publishes its title.

Streams whose path begins with ``/transformable-`` may be compressed on the way. Those in ``ENDINGS`` end wrongly.
"""

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub

hub = Hub("memory://", heartbeat=float(os.environ["HEARTBEAT"]), origins=["https://app.example"])


START = b"retry: 5000\nevent: stream-start\nid: kxqwzp-0\ndata: {}\n\n"
FAREWELL = b"retry: 1000\nevent: stream-end\ndata: {}\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


def slow_farewell() -> Iterator[bytes]:
    """A connection that stays open after the farewell."""
    yield START + FAREWELL
    time.sleep(3)


def no_farewell() -> Iterator[bytes]:
    """A stream that just ends."""
    yield START
    time.sleep(0.3)
    yield b"data: {}\n\n"


ENDINGS = {"/slow-farewell": slow_farewell, "/no-farewell": no_farewell}


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer one request (PEP 3333)."""
    request = Request(environ)
    if request.path == "/healthz":
        response = Response("ok")
    elif request.method == "POST":
        hub.publish(request.path, request.get_json()["title"])
        response = Response(status=201)
    elif request.path in ENDINGS:
        response = Response(ENDINGS[request.path](), content_type="text/event-stream", headers=HEADERS)
    else:
        response = hub.stream(request, request.path)
        if request.path.startswith("/transformable-"):
            response.headers["Cache-Control"] = "no-cache"
    return response(environ, start_response)
