"""``sse-threaded check``: its options, its run and its exit status."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from . import report
from .codes import Level
from .errors import CannotCheck
from .findings import findings
from .probes import STAMP, USUAL_WAIT, Check, Post, Settings
from .target import Target

# The name of a header field (RFC 9110 5.1), and its value: visible characters and blanks.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# As a browser writes it: without a path.
_ORIGIN = re.compile(r"https?://[^/?#@\s]+")

_FAULTS, _CANNOT_CHECK = 1, 2

_EPILOG = """\
examples:
  sse-threaded check https://app.example/events
  # with a login; for a page of another origin
  sse-threaded check https://events.app.example/events --header 'Cookie: session=...' --origin https://app.example
  # publish an event too, and measure how long it takes
  sse-threaded check https://app.example/boards/board-1/events \\
      --post https://app.example/boards/board-1/tasks '{"title": "{stamp}"}'

The exit status is 0 if there is no fault, 1 if there is one, and 2 if the check could not be made. The check
publishes nothing without --post. With it, at most two events stay in the app. docs/check.md explains each code.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command and its options."""
    check = commands.add_parser(
        "check",
        help="probe a deployment from outside, and name its faults",
        description="Open a stream as a browser does, listen for a while, and name the faults of the "
        "deployment, each with its remedy. It works with any server of event streams.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("target", metavar="URL", help="the URL of a stream: https://host/path")
    check.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="send this header field too, such as a cookie; may be repeated; its value is never shown",
    )
    check.add_argument("--origin", metavar="ORIGIN", help="check that pages of this origin may read the stream")
    check.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        help=f"listen for so long; default: until the second heartbeat, at most {USUAL_WAIT:g}",
    )
    check.add_argument(
        "--post",
        nargs=2,
        metavar=("URL", "BODY"),
        help=f"publish an event by a POST of BODY to URL; {STAMP} in BODY is replaced by letters and digits",
    )
    check.add_argument(
        "--content-type",
        default="application/json",
        metavar="TYPE",
        help="the type of BODY; default %(default)s",
    )
    check.add_argument(
        "--cacert", metavar="FILE", help="trust the certificates in this file, too, such as those of your own CA"
    )
    check.add_argument("--strict", action="store_true", help="exit with 1 after a warning, too")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.set_defaults(run=run)
    return check


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status: 0, 1 after a fault, 2 if the check could not be made."""
    line = _ProgressLine(sys.stderr if sys.stderr.isatty() else None)
    try:
        target, settings = Target.of(options.target), _settings(options)
        try:
            seen = Check(target, settings, line.show).run()
        finally:
            line.end()
    except CannotCheck as error:
        if options.json:
            print(json.dumps({"error": str(error)}))  # noqa: T201
        print(f"sse-threaded: {error}", file=sys.stderr)  # noqa: T201
        return _CANNOT_CHECK
    found = findings(seen)
    print(json.dumps(report.as_json(seen, found)) if options.json else report.text(seen, found))  # noqa: T201
    failing = (Level.FAULT, Level.WARNING) if options.strict else (Level.FAULT,)
    return _FAULTS if any(finding.level in failing for finding in found) else 0


def _settings(options: argparse.Namespace) -> Settings:
    post = None
    if options.post is not None:
        url, body = options.post
        if STAMP not in body:
            raise CannotCheck(f"the body of --post needs {STAMP}, by which the check recognizes its event")
        post = Post(Target.of(url), body, options.content_type)
    if options.origin is not None and not _ORIGIN.fullmatch(options.origin):
        raise CannotCheck("--origin is not an origin; write it as a browser does, such as https://app.example")
    return Settings(_fields(options.header), options.origin, options.wait, post, options.cacert)


def _fields(headers: Sequence[str]) -> dict[str, str]:
    fields = {}
    for header in headers:
        name, colon, value = header.partition(":")
        # The message must not show a secret.
        if not colon or not _NAME.fullmatch(name.strip()) or not value.strip().isprintable():
            raise CannotCheck("a header field is invalid; write --header 'Name: value'")
        fields[name.strip()] = value.strip()
    return fields


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


class _ProgressLine:
    """One line of a terminal with a bar."""

    _CELLS = 24

    def __init__(self, terminal: TextIO | None) -> None:
        self._terminal = terminal

    def show(self, words: str, seconds: float, most: float) -> None:
        if self._terminal is None:
            return
        done = min(self._CELLS, int(self._CELLS * seconds / most))
        line = f"[{'#' * done:<{self._CELLS}}] {seconds:.0f} of {most:.0f} s, {words}"
        self._terminal.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        self._terminal.flush()

    def end(self) -> None:
        if self._terminal is not None:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()
