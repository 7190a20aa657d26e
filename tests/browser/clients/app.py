"""The app that all clients talk to: a stream, the pages of the browser clients, and their scripts.

Its settings come from the environment:

    LOG       the log's URL
    LEASE     seconds; by default none
    RETRY     milliseconds; by default RETRY
    REQUESTS  a file that gets one line of JSON for each request for events
    FULL      while this file is there, no client gets a stream
    PACKAGES  the directory with the client libraries
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.utils import send_from_directory
from werkzeug.wrappers import Request

from sse_threaded import Hub

PAGES = Path(__file__).with_name("pages")

# Milliseconds: short, so that a scenario takes seconds.
RETRY = 100


def create_app():
    """The WSGI application."""
    settings = {
        "retry": int(os.environ.get("RETRY", RETRY)),
        "heartbeat": 0.1,
        "lease": float(os.environ["LEASE"]) if os.environ.get("LEASE") else None,
    }
    hub = Hub(os.environ["LOG"], **settings)
    full = Hub(os.environ["LOG"], **settings, max_streams=0)

    def events(request, client, channel):
        is_full = os.path.exists(os.environ["FULL"])
        came_with = request.headers.get("Last-Event-ID") or request.args.get("lastEventId")
        line = json.dumps({"client": client, "last_event_id": came_with, "full": is_full})
        with open(os.environ["REQUESTS"], "a", encoding="utf-8") as file:
            file.write(line + "\n")  # one write of a short line: lines of two processes do not mix
        return (full if is_full else hub).stream(request, channel)

    def page(request, name):
        return send_from_directory(PAGES, name, request.environ)

    def package(request, path):
        return send_from_directory(os.environ["PACKAGES"], path, request.environ)

    rules = Map(
        [
            Rule("/events/<client>/<channel>", endpoint=events),
            Rule("/pages/<name>", endpoint=page),
            Rule("/packages/<path:path>", endpoint=package),
        ]
    )

    @Request.application
    def application(request):
        try:
            view, values = rules.bind_to_environ(request.environ).match()
            return view(request, **values)
        except HTTPException as error:
            return error.get_response(request.environ)

    return application
