"""Draws docs/rooms.svg: the rooms of the package, and which room imports which.

    python -m tests.harness.rooms_diagram

The imports are read from the sources. Where a room stands in the picture is written here. An arrow that longer
ways imply is left out: board imports errors, and other arrows lead from board to errors. The title of each box
(shown under the mouse, and read aloud by screen readers) names all rooms that it imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.harness.imports import SOURCES, inner_imports
from tests.support import ROOT

PICTURE = ROOT / "docs" / "rooms.svg"

_WIDTH, _ROW, _MARGIN, _GAP = 230, 58, 20, 36
_ROWS = 9


class Room(NamedTuple):
    """A room.

    :ivar modules: names of modules below the package; those of a folder are in the folder's room.
    :ivar purpose: what it is for.
    :ivar floor: from the ground up; an arrow leads from a higher floor to a lower one.
    :ivar x: its box's left edge.
    :ivar inside: the room whose box has this one's box in it; empty for none.
    """

    modules: tuple[str, ...]
    purpose: str
    floor: int
    x: int
    inside: str = ""


ROOMS = {
    "cli": Room(("cli",), "the command sse-threaded", 8, 415),
    "board": Room(("board",), "the live task board", 7, 415),
    "sse_threaded": Room((".",), "the public names", 6, 20),
    "django": Room(("django",), "an app for Django's database", 6, 262),
    "worker, gunicorn_hooks": Room(("worker", "gunicorn_hooks"), "the names for gunicorn", 6, 590),
    "hub": Room(("hub", "event_requests", "wsgi_server"), "publish and subscribe", 5, 415),
    "browser": Room(("browser",), "live.js, for tabs of a browser", 5, 141),
    "server": Room(("server",), "gunicorn's worker, connections", 5, 665),
    "stream, longpoll": Room(("stream", "longpoll"), "what a response gives", 4, 516),
    "fanout": Room(("fanout",), "one event to many clients", 3, 510),
    "presence": Room(("presence",), "the people of a channel", 4, 278),
    "overview, debug": Room(("overview", "debug"), "streams, for operators", 4, 755),
    "publisher": Room(("publisher",), "publishing over HTTP", 4, 20),
    "metrics, tracing": Room(("metrics", "tracing"), "observers of a hub", 4, 1000),
    "access": Room(("access",), "tickets, tokens, origins", 3, 20),
    "bench": Room(("bench",), "the load client", 7, 755),
    "top": Room(("top",), "a table of streams", 7, 1110),
    "log": Room(("log",), "where events are kept", 2, 265),
    "log/sqlite": Room(("log.sqlite",), "one machine", 2, 425, "log"),
    "log/postgres": Room(("log.postgres",), "many machines", 2, 550, "log"),
    "log/redis": Room(("log.redis",), "many machines", 2, 675, "log"),
    "client": Room(("client",), "reads a stream, reconnects", 2, 1245),
    "check": Room(("check",), "probes a deployment", 2, 1490),
    "testing": Room(("testing",), "servers and clients for tests", 6, 850),
    "protocol": Room(("protocol",), "bytes and HTTP, no threads", 1, 415),
    "errors": Room(("errors", "throttled_log", "observer", "metrics_directory"), "SSEError and its kinds", 0, 415),
}

_CONTAINER_WIDTH, _INNER_WIDTH, _INNER_PADDING = 535, 118, 7

# Arrows that would cross a box on the straight way: they leave the first box at its side.
_BENT = {("board", "browser"), ("cli", "bench"), ("cli", "check"), ("cli", "client"), ("cli", "sse_threaded")}

# Arrows that go straight down, each at this place, beside the boxes between.
_DOWN = {("browser", "log"): 269}

_STYLE = """
  .back { fill: #ffffff }
  .box { fill: #f3f6fa; stroke: #57606a }
  .inner { fill: #ffffff; stroke: #57606a }
  .name { fill: #1f2328; font: 600 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .purpose { fill: #57606a; font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
  .arrow { stroke: #0969da; stroke-width: 1.5; fill: none }
  .head { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 }
    .box { fill: #161b22; stroke: #8b949e }
    .inner { fill: #0d1117; stroke: #8b949e }
    .name { fill: #e6edf3 }
    .purpose { fill: #9da7b1 }
    .arrow { stroke: #58a6ff }
    .head { fill: #58a6ff }
  }
"""


def room_of(module: str) -> str:
    """The room of a module, by the longest name that fits.

    :raises LookupError: there is none.
    """
    fitting = [
        (len(part), name)
        for name, room in ROOMS.items()
        for part in room.modules
        if module == part or module.startswith(f"{part}.")
    ]
    if not fitting:
        raise LookupError(f"{module} has no room: give it one in ROOMS of tests/harness/rooms_diagram.py")
    return max(fitting)[1]


def imports() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module in SOURCES:
        here = room_of(module)
        found[here] |= {room_of(target) for target, _ in inner_imports(module)} - {here}
    return found


def arrows() -> set[tuple[str, str]]:
    """The arrows of the picture: without those that longer ways imply, and without those inside a box."""

    def outer(name: str) -> str:
        return ROOMS[name].inside or name

    edges: dict[str, set[str]] = {}
    for name, targets in imports().items():
        edges.setdefault(outer(name), set()).update({outer(target) for target in targets} - {outer(name)})

    def reached(name: str) -> set[str]:
        return edges[name].union(*(reached(target) for target in edges[name]))

    for name, targets in edges.items():
        for target in targets:
            if ROOMS[target].floor >= ROOMS[name].floor:
                raise ValueError(f"{name} imports {target}, which is drawn no lower: change ROOMS of the diagram")
    return {
        (name, target)
        for name, targets in edges.items()
        for target in targets
        if not any(target in reached(other) for other in targets - {target})
    }


def _top(floor: int) -> int:
    return _MARGIN + (_ROWS - 1 - floor) * (_ROW + _GAP)


def _width(name: str) -> int:
    if ROOMS[name].inside:
        return _INNER_WIDTH
    return _CONTAINER_WIDTH if any(room.inside == name for room in ROOMS.values()) else _WIDTH


def _middle(name: str) -> float:
    return ROOMS[name].x + _width(name) / 2


def _box(name: str, imported: set[str]) -> Iterator[str]:
    room = ROOMS[name]
    padding = _INNER_PADDING if room.inside else 0
    top, height = _top(room.floor) + padding, _ROW - 2 * padding
    below = ", ".join(sorted(imported)) or "no other room"
    kind = "inner" if room.inside else "box"
    yield f"<g><title>{escape(name)} imports {escape(below)}</title>"
    yield f'<rect class="{kind}" x="{room.x}" y="{top}" width="{_width(name)}" height="{height}" rx="6"/>'
    x, middle = room.x + 12, top + height / 2
    yield f'<text class="name" x="{x}" y="{middle - 4:g}">{escape(name.rpartition("/")[2])}</text>'
    yield f'<text class="purpose" x="{x}" y="{middle + 14:g}">{escape(room.purpose)}</text></g>'


def _arrow(name: str, target: str, ends: dict[str, list[str]], begins: dict[str, list[str]]) -> str:
    def place(room: str, others: list[str], other: str) -> float:
        # Several arrows at one edge stand apart, in the order of where they lead.
        index = sorted(others, key=_middle).index(other)
        return _middle(room) + (index - (len(others) - 1) / 2) * 44

    top = _top(ROOMS[target].floor) - 3
    if (name, target) in _DOWN:
        path = f"M {_DOWN[name, target]} {_top(ROOMS[name].floor) + _ROW} V {top}"
        return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'
    end = place(target, ends[target], name)
    if (name, target) in _BENT:
        right = 1 if end > _middle(name) else -1
        side, height = _middle(name) + right * _width(name) / 2, _top(ROOMS[name].floor) + _ROW / 2
        path = f"M {side:g} {height:g} H {end - 12 * right:g} Q {end:g} {height:g} {end:g} {height + 12:g} V {top}"
    else:
        path = f"M {place(name, begins[name], target):g} {_top(ROOMS[name].floor) + _ROW} L {end:g} {top}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def drawing() -> str:
    """The picture."""
    found = imports()
    pairs = sorted(arrows())
    ends: dict[str, list[str]] = {}
    begins: dict[str, list[str]] = {}
    for name, target in pairs:
        if (name, target) in _DOWN:
            continue
        ends.setdefault(target, []).append(name)
        if (name, target) not in _BENT:
            begins.setdefault(name, []).append(target)
    width = max(room.x + _width(name) for name, room in ROOMS.items()) + _MARGIN
    height = _top(0) + _ROW + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        "<!-- Made by: python -m tests.harness.rooms_diagram -->",
        "<title>The rooms of sse_threaded; an arrow leads to what a room imports</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M 0 0 L 8 4 L 0 8 z"/></marker></defs>',
        f'<rect class="back" width="{width}" height="{height}"/>',
        *(_arrow(name, target, ends, begins) for name, target in pairs),
        *(line for name in ROOMS for line in _box(name, found[name])),
        "</svg>",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
