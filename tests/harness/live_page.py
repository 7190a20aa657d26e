"""An app with a page on live.js, for browsers: what it receives is in the page's ``got`` and ``told``.

In the test's process: ``LiveServer(LiveApp(hub))``. In gunicorn: ``tests.harness.live_page:create_app()``, with
the log of the environment variable :data:`LOG`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.browser import LiveScript, asked_channels, script

LOG = "LIVE_LOG"

# Short ones, so that tests need not wait for long ones. The hub of a test has a heartbeat below a second.
TIMES = {"silence": 2500, "opening": 2500, "again": 1500, "longest": 1000, "hidden": 800}

PAGE = """<!doctype html>
<title>live</title>
<script type="module">
import {{ Live }} from "/live/{script}";

const options = {options};
window.got = {{}}; // by channel, the ids in the order in which they came
window.told = []; // events of Live about itself
window.Live = Live;
window.live = new Live(options.url, options);
window.add = (channel, position) => {{
  const ids = (got[channel] ??= []);
  return live.subscribe(channel, ({{ id }}) => ids.push(id), position && {{ lastEventId: position }});
}};
for (const type of ["state", "reset", "finished", "overload", "refused", "people", "stream-later"]) {{
  live.addEventListener(type, ({{ detail }}) => told.push([type, detail]));
}}
for (const channel of options.channels) add(channel);
window.ready = true;
</script>
"""


class LiveApp:
    """``/page?options=`` is the page. ``/events`` has the channels, unless they begin with ``secret``.

    :param hub: with the events.
    :param stream: answers requests for events that are not refused; default: ``hub.stream``.
    :ivar stream: may be replaced while the server runs.
    :ivar requests: the query strings of the requests for events, each with its Accept header.
    """

    def __init__(self, hub: Hub, stream: Callable[[Request, list[str]], Response] | None = None) -> None:
        self.hub = hub
        self.stream = stream or hub.stream
        self.requests: list[tuple[str, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        web = Request(environ)
        return self.answer(web)(environ, start_response)

    def answer(self, web: Request) -> Response:
        if web.path in ("/events", "/all"):
            return self.events(web)
        if web.path == "/page":
            return page(json.loads(web.args["options"]))
        if web.path.startswith("/live/"):
            return LiveScript().answer(web)
        if web.path == "/empty":
            return Response("<!doctype html><title>empty</title>", mimetype="text/html")
        if web.path == "/health":
            return Response(json.dumps(self.hub.health()), mimetype="application/json")
        return Response("there is nothing", 404)

    def events(self, web: Request) -> Response:
        self.requests.append((web.environ["QUERY_STRING"], web.headers["Accept"]))
        if web.path == "/all":
            return self.hub.stream(web, ["a", "b"])
        channels, refusal = asked_channels(web, lambda name: not name.startswith("secret"))
        return refusal or self.stream(web, channels)


def page(options: dict[str, Any]) -> Response:
    """The page, with these options of Live, its URL and its channels."""
    return Response(PAGE.format(script=script().name, options=json.dumps(options)), mimetype="text/html")


def path_of(*channels: str, url: str = "/events", times: dict[str, int] | None = None, **options: Any) -> str:
    """The path of a page that subscribes to these channels.

    :param url: of the stream.
    :param times: other times than :data:`TIMES`, milliseconds.
    :param options: of Live.
    """
    chosen = {**options, "url": url, "channels": channels, "times": {**TIMES, **(times or {})}}
    return f"/page?options={quote(json.dumps(chosen))}"


def create_app() -> LiveApp:
    """The app, in gunicorn."""
    return LiveApp(Hub(os.environ[LOG], heartbeat=0.5, retry=300))
