"""Which client libraries there are, what each needs, and the tables of docs/clients.md.

``python -m tests.browser.clients.catalogue`` prints the tables.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from importlib import metadata
from pathlib import Path

from tests.support import CHECKOUT, ROOT, missing

HERE = Path(__file__).parent

# Where tests/run installs what package.json and wheels.txt name.
PACKAGES = CHECKOUT / ".test-npm"


# What many libraries do at the status 204.
_AGAIN = "asks again without end, after each reconnection time"


@dataclasses.dataclass(frozen=True)
class Client:
    """A client library.

    :ivar name: of its program or page, and in the request log.
    :ivar title: its name for readers of the table.
    :ivar package: of npm (its folder; or two folders) or of PyPI; empty for browsers.
    :ivar needs: the code that the app must have; a part of the program or page. Empty: nothing.
    :ivar without: what happens without that code.
    :ivar at_the_end: the code that it must have to stop when its channel is finished. Empty: it stops by itself.
    :ivar without_end: what happens then without that code.
    :ivar channel: which form of the events it takes: ``json``, or HTML that its library understands.
    :ivar program: the command, for clients that are processes.
    :ivar hasty: it takes an id at the end of its line already, and not at the event's end (against 9.2.6).
    """

    name: str
    title: str
    package: str = ""
    needs: str = ""
    without: str = ""
    at_the_end: str = ""
    without_end: str = ""
    channel: str = "json"
    program: tuple[str, ...] = ()
    hasty: bool = False

    @property
    def source(self) -> Path:
        """Its program or page."""
        name = self.name.removesuffix("-firefox").removesuffix("-endless")
        (path,) = (path for kind in ("js", "py", "pages") for path in (HERE / kind).glob(f"{name}.*"))
        return path

    @property
    def version(self) -> str:
        """What is installed here."""
        if self.name == "datastar":  # the script in a wheel says it
            script = (PACKAGES / "wheels/starhtml/static/js/datastar-core.js").read_text(encoding="utf-8")
            return re.findall(r"Datastar v([0-9.]+)", script)[0]
        if not self.package:
            return "any"
        if self.program and self.program[0] == sys.executable:
            return metadata.version(self.package)
        files = [PACKAGES / "node_modules" / folder / "package.json" for folder in self.package.split()]
        return ", ".join(json.loads(file.read_text(encoding="utf-8"))["version"] for file in files)


def _node(name: str, package: str = "", **facts: str) -> Client:
    source = (HERE / "js" / f"{name}.mjs").read_text(encoding="utf-8")
    # Given as text, it imports from the working directory, which has the packages.
    program = ("node", "--input-type=module", "-e", source)
    return Client(name, f"npm {(package or name).partition('-4')[0]}", package or name, program=program, **facts)


def _python(name: str, **facts: str) -> Client:
    return Client(name, f"PyPI {name}", name, program=(sys.executable, str(HERE / "py" / f"{name}.py")), **facts)


CHROMIUM = (
    Client("native", "EventSource of Chromium"),
    Client("event-source-polyfill", "npm event-source-polyfill", "event-source-polyfill"),
    Client(
        "fetch-event-source",
        "npm @microsoft/fetch-event-source",
        "@microsoft/fetch-event-source",
        needs='onclose() { throw new Error("come back"); }',
        without="stops at the first end of a stream",
        at_the_end="async onopen({ status }) { if (status === 204) throw finished; }, "
        "onerror(error) { if (error === finished) throw error; },",
        without_end=_AGAIN,
        hasty=True,
    ),
    Client(
        "htmx-2",
        "htmx 2, htmx-ext-sse",
        "htmx-2 htmx-ext-sse",
        channel="named",
        at_the_end='sse-close="stream-finished"',
        without_end="asks again at longer and longer intervals, up to 64 seconds",
    ),
    Client(
        "htmx-4",
        "htmx 4, hx-sse",
        "htmx.org",
        channel="html",
        at_the_end='hx-sse:close="stream-finished"',
        without_end=_AGAIN,
    ),
    Client("turbo", "Turbo, `<turbo-stream-source>`", "@hotwired/turbo", channel="turbo"),
    Client(
        "datastar",
        "Datastar",
        "starhtml",
        needs='{retry: "always", retryMaxCount: Infinity}',
        without="stops at the first end of a stream, and after ten refused connections",
        channel="datastar",
        hasty=True,
    ),
)

FIREFOX = (Client("native-firefox", "EventSource of Firefox"),)

NODE = (
    _node("eventsource-4"),
    _node(
        "eventsource-5",
        "eventsource",
        needs="setInterval(() => {}, 1e9);",
        without="node ends with the first stream if no other task, such as a server, keeps it running",
    ),
    _node("eventsource-client"),
    _node(
        "launchdarkly-eventsource",
        needs="source.onerror = () => {};",
        without="the first refused connection throws an error that ends node",
    ),
)

PYTHON = (
    Client(
        "own-client",
        "[`sse_threaded.client`](python-client.md)",
        program=(sys.executable, str(HERE / "py" / "own-client.py")),
    ),
    _python(
        "sseclient-py",
        at_the_end="if response.status_code == 204:",
        without_end="The app's loop asks again without end.",
        needs="last_event_id = event.id or last_event_id",
        without="It reads one response. The app's loop asks again and sends `Last-Event-ID`.",
    ),
    _python(
        "httpx-sse",
        at_the_end="if source.response.status_code == 204:",
        without_end="The same.",
        needs="last_event_id = event.id or last_event_id",
        without="The same. It also needs `timeout=httpx.Timeout(5, read=60)`, because heartbeats come more than "
        "5 seconds apart.",
    ),
    _python(
        "requests-sse",
        needs="max_connect_retry=100",
        without="gives up after five refused connections",
        at_the_end="except InvalidStatusCodeError as error: if error.status_code != 204:",
        without_end="stops with this error",
    ),
    _python(
        "aiohttp-sse-client2",
        needs='headers["Last-Event-Id"] = event.last_event_id',
        without="It raises an error when the stream breaks. The app must create a new client and send "
        "`Last-Event-Id`, with this spelling. It also needs a session with `ClientTimeout(total=None)`, because "
        "each request ends after five minutes otherwise.",
        at_the_end='except ConnectionAbortedError as error: if "status: 204" in str(error):',
        without_end="stops with this error",
    ),
)

# In the order of the tables.
ALL = (*CHROMIUM[:1], *FIREFOX, *CHROMIUM[1:], *NODE, *PYTHON)

_HEAD = ("Client", "Version", "Killed", "SIGTERM", "No room", "Lease", "Cut off", "Needed code", "Without it")
_HEAD_AT_THE_END = ("Client", "Code at the end", "Without it")


def require_packages() -> None:
    """End the test where the client libraries are not installed."""
    if not (PACKAGES / "wheels.txt").is_file():
        missing(f"the client libraries in {PACKAGES} (bash tests/run installs them)")


def table() -> str:
    """The first table of docs/clients.md, whose cells the scenarios of ``harness.py`` hold to."""
    require_packages()
    rows = []
    for client in ALL:
        cut = "whole, except in one place" if client.hasty else "whole"
        needs = f"`{client.needs}`" if client.needs else "nothing"
        rows.append((client.title, client.version, *["whole"] * 4, cut, needs, client.without))
    return _lines(_HEAD, rows)


def table_at_the_end() -> str:
    """The second table: the clients that need code to stop when their channel is finished."""
    return _lines(
        _HEAD_AT_THE_END,
        [(client.title, f"`{client.at_the_end}`", client.without_end) for client in ALL if client.at_the_end],
    )


def _lines(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def shown(table: str) -> str:
    """What docs/clients.md has now in the place of this table."""
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    head = table.partition("\n")[0]
    return page[page.index(head) :].partition("\n\n")[0] + "\n" if head in page else ""


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n{table_at_the_end()}")
