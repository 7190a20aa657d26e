"""``sse-threaded``: serve the board, publish an event, listen to a channel, put a server under load."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence

from . import __version__
from .bench import command as bench
from .board.settings import DEFAULT_URL, URL
from .errors import InvalidEvent, LogUnavailable, LogUnusable, SSEError
from .fanout.cursor import Cursor
from .log import EventLog, open_log, without_secret
from .log.doorbell import Doorbell
from .log.interface import AS_OTHERS_KEEP, check_channel
from .log.sqlite.url import parse_url

# Between two looks at a log that cannot be reached.
_AGAIN_SECONDS = 1.0

_CONFIG = "python:sse_threaded.board.gunicorn_conf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 for an error, 130 after Ctrl-C.

    :param arguments: without the program's name; default ``sys.argv[1:]``.
    """
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.run is not _serve:
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and not rest[0].startswith("-"):
        _parser().error(f"{rest[0]!r} is no flag; for a port, say, write: serve -b 127.0.0.1:8000")
    options.gunicorn_flags = rest
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except SSEError as error:
        print(f"sse-threaded: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough (| head). The interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sse-threaded",
        description="Server-Sent Events from synchronous Python web apps. serve, publish and listen share one "
        "event log: what one publishes, the others see.",
    )
    parser.add_argument("--version", action="version", version=f"sse-threaded {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    shown = without_secret(os.environ.get(URL) or DEFAULT_URL).replace("%", "%%")
    kept = f"where events are kept; default: the variable {URL}, now {shown}"
    parser.set_defaults(url=os.environ.get(URL) or DEFAULT_URL)
    # Before the command or behind it; a default behind it would take back what was said before.
    for each in (parser, *(add(commands) for add in (_add_serve, _add_publish, _add_listen))):
        each.add_argument("--url", default=argparse.SUPPRESS, help=kept)
    bench.add_parser(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    serve = commands.add_parser(
        "serve",
        help="run the live task board under gunicorn",
        description="Run the live task board under gunicorn, then open http://localhost:3000 in a browser. "
        "Ctrl-C stops it.",
        epilog="Any flag of gunicorn's may follow, such as: sse-threaded serve -b 0.0.0.0:8000 -w 4 --threads 32",
    )
    serve.set_defaults(run=_serve)
    return serve


def _add_publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    publish = commands.add_parser(
        "publish",
        help="append one event to the log",
        description="Append one event to the log and print its id. All who listen to the channel get it.",
        epilog='Example: sse-threaded publish news \'{"title":"Hello"}\'',
    )
    publish.add_argument("channel", metavar="CHANNEL", help="the channel: any name; a board's is its id (board-1)")
    publish.add_argument("data", metavar="DATA", help="the event's data, sent as it is; - for standard input")
    publish.add_argument("--event", metavar="NAME", help="the event's type; default: message")
    publish.set_defaults(run=_publish)
    return publish


def _add_listen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    listen = commands.add_parser(
        "listen",
        help="print a channel's events as they come",
        description="Print a channel's events as they come, in the form in which browsers get them, until Ctrl-C. "
        "It reads the log itself; no server need run.",
        epilog="Example: sse-threaded listen board-1 --since kxqwzp-17",
    )
    listen.add_argument("channel", metavar="CHANNEL", nargs="+", help="the channel's name, or several")
    listen.add_argument("--since", metavar="ID", help="begin after this event; default: with the next one")
    listen.set_defaults(run=_listen)
    return listen


def _serve(options: argparse.Namespace) -> int:
    os.environ[URL] = options.url
    command = [sys.executable, "-m", "gunicorn", "-c", _CONFIG, *options.gunicorn_flags]
    os.execv(sys.executable, command)


def _publish(options: argparse.Namespace) -> int:
    try:
        data = sys.stdin.buffer.read().decode() if options.data == "-" else options.data
    except UnicodeDecodeError as error:
        raise InvalidEvent("data", f"standard input is not UTF-8 (byte {error.start + 1}); send text") from None
    log = _open(options.url)
    try:
        print(log.append(options.channel, data, options.event))  # noqa: T201
    finally:
        log.close()
    return 0


def _listen(options: argparse.Namespace) -> int:
    for channel in options.channel:
        check_channel(channel)
    log = _open(options.url)
    doorbell = log.open_doorbell()
    try:
        cursor = Cursor(log, options.channel, options.since)
        while cursor.reset is None:
            wire = _wire(cursor, doorbell)
            if wire:
                sys.stdout.buffer.write(wire)
                sys.stdout.buffer.flush()
            else:
                select.select([doorbell], [], [], log.poll_interval)
                doorbell.clear()
        print(f"sse-threaded: cannot begin after {options.since!r}: {_WHY[cursor.reset]}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        doorbell.close()
        log.close()


def _wire(cursor: Cursor, doorbell: Doorbell) -> bytes:
    """What comes next; waits for a log that cannot be reached for a while."""
    told = False
    while True:
        try:
            return cursor.read_wire()
        except LogUnavailable as error:
            if not told:
                print(f"sse-threaded: waiting: {error}", file=sys.stderr)  # noqa: T201
            told = True
            select.select([doorbell], [], [], _AGAIN_SECONDS)
            doorbell.clear()


_WHY = {
    "malformed": "that is no event's id; ids look like kxqwzp-17",
    "epoch": "it is of another log",
    "beyond": "the log does not reach so far",
    "expired": "what came after it is no longer kept",
}


def _open(url: str) -> EventLog:
    if url == "memory://":
        others = "give --url sqlite:///file.db or redis://host:6379/0"
        raise LogUnusable(url, f"lives inside one process, no command can see it; {others}")
    if url.startswith("sqlite:"):
        path, _ = parse_url(url)
        if not os.path.exists(path):
            raise LogUnusable(url, f"{path!r} is not there; start the server first, or name its log with --url")
    return open_log(url, AS_OTHERS_KEEP)  # how much is kept only the app knows


if __name__ == "__main__":
    sys.exit(main())
