"""``sse-threaded top``: shows the streams of all processes until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import suppress

from ..errors import SSEError
from ..log import EventLog
from ..overview import DEFAULT_MOST, to_json
from .source import LogSource, PageSource, Source

# Seconds between two looks.
_INTERVAL = 2.0


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], open_log: Callable[[str], EventLog]
) -> argparse.ArgumentParser:
    """Add the command.

    :param open_log: opens the log of a URL, as the other commands do.
    """
    top = commands.add_parser(
        "top",
        help="show the open streams of all processes",
        description="Show the open streams of all processes as a live table: channels, user, address, age, last "
        "id, events that wait, bytes. Those for which most events wait come first. Ctrl-C ends it. Without "
        "ADDRESS the command asks through the log of --url.",
        epilog="Example: sse-threaded top http://localhost:3000/debug --header 'Cookie: session=...'; "
        "sse-threaded top --url redis://localhost:6379/0 --once",
    )
    top.add_argument(
        "address", metavar="ADDRESS", nargs="?", help="the http:// or https:// address of a debug page"
    )
    top.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header field of the requests to ADDRESS, such as 'Authorization: Bearer ...'; may be repeated",
    )
    top.add_argument("--every", metavar="SECONDS", type=_seconds, default=_INTERVAL, help="default: %(default)g")
    top.add_argument("--once", action="store_true", help="print the table once, and end")
    top.add_argument("--json", action="store_true", help="print the processes once as JSON, and end")
    top.set_defaults(run=lambda options: _top(options, open_log))
    return top


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0.2 <= seconds <= 3600:
            return seconds
    raise argparse.ArgumentTypeError(f"must be a number of seconds from 0.2 to 3600, not {text!r}")


def _top(options: argparse.Namespace, open_log: Callable[[str], EventLog]) -> int:
    if options.address is None:
        if options.header:
            raise SSEError("--header belongs to the address of a debug page; a log has no header fields")
        log = open_log(options.url)
        try:
            return _show(LogSource(log, DEFAULT_MOST), options)
        finally:
            log.close()
    if not options.address.lower().startswith(("http://", "https://")):
        raise SSEError(f"{options.address!r} is not an http:// or https:// address; for a log write --url")
    return _show(PageSource(options.address, options.header), options)


def _show(source: Source, options: argparse.Namespace) -> int:
    if options.json:
        reports = source.read()
        print(json.dumps([to_json(report) for report in reports], indent=1))  # noqa: T201
        return 0
    try:
        from .screen import show, show_once  # noqa: PLC0415  # needs an extra
    except ImportError:
        raise SSEError("the table needs rich: pip install 'sse-threaded[top]'; or add --json") from None
    if options.once or not sys.stdout.isatty():
        show_once(source)
    else:
        show(source, options.every)
    return 0
