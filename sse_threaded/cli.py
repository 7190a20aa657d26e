"""``sse-threaded``: serves the board, publishes, listens, prints the SQL of a log, loads and checks a server."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from io import BufferedReader
from itertools import chain
from typing import cast

from . import __version__
from .bench import command as bench
from .board.settings import DEFAULT_URL, URL
from .check import command as check
from .errors import InvalidEvent, LogUnavailable, LogUnusable, SSEError
from .fanout.control_events import reserved
from .fanout.cursor import Cursor
from .log import EventLog, open_log, without_secret
from .log.doorbell import Doorbell
from .log.postgres.installation import grants
from .log.postgres.schema import statements
from .log.postgres.url import parse_url as parse_postgres_url
from .log.retention import AS_OTHERS_KEEP
from .log.sqlite.url import parse_url
from .log.url import POSTGRES
from .log.validation import RESERVED_PREFIX, validate_channel, validate_event
from .protocol.event import FINISHED
from .publisher.client import PublisherClient, read_token
from .publisher.events import Event
from .publisher.lines import batches_of_lines
from .top import command as top

# Seconds between two attempts to read a log that cannot be reached.
_RETRY_SECONDS = 1.0

_CONFIG = "python:sse_threaded.board.gunicorn_conf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 after an error, 130 after Ctrl-C.

    ``check`` has a further one: 2 if the check could not be made.

    :param arguments: the arguments without the name of the program; default ``sys.argv[1:]``.
    """
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.run is not _serve:
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and not rest[0].startswith("-"):
        _parser().error(f"{rest[0]!r} is not a flag; to set the port, write: serve -b 127.0.0.1:8000")
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
        # The reader of the output has ended, as in "| head". Prevent the warning of the interpreter at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sse-threaded",
        description="Server-Sent Events from synchronous Python web apps. serve, publish and listen share one "
        "event log: an event that one publishes, the others receive.",
    )
    parser.add_argument("--version", action="version", version=f"sse-threaded {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    shown = without_secret(os.environ.get(URL) or DEFAULT_URL).replace("%", "%%")
    url_help = f"the event log; default: the variable {URL}, now {shown}"
    parser.set_defaults(url=os.environ.get(URL) or DEFAULT_URL)
    # --url may come before or after the command. A default for the second would override the value of the first.
    added = [add(commands) for add in (_add_serve, _add_publish, _add_listen, _add_schema)]
    for each in (parser, *added, top.add_parser(commands, _open)):
        each.add_argument("--url", default=argparse.SUPPRESS, help=url_help)
    bench.add_parser(commands)
    check.add_parser(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    serve = commands.add_parser(
        "serve",
        help="run the live task board under gunicorn",
        description="Run the live task board under gunicorn, then open http://localhost:3000 in a browser. "
        "Ctrl-C stops it.",
        epilog="You can add any flag of gunicorn, such as: sse-threaded serve -b 0.0.0.0:8000 -w 4 --threads 32",
    )
    serve.set_defaults(run=_serve)
    return serve


def _add_publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    publish = commands.add_parser(
        "publish",
        help="append an event, or lines, to the log",
        description="Append one event to the log and print its id. Every listener of the channel receives it. "
        "With --to the command sends the event to an app's publisher over HTTP.",
        epilog='Example: sse-threaded publish news \'{"title":"Hello"}\'. Of a command: '
        "make 2>&1 | sse-threaded publish build-7 --lines --finish",
    )
    publish.add_argument(
        "channel", metavar="CHANNEL", help="the channel: any name; for a board its id, such as board-1"
    )
    publish.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="the data of the event, sent unchanged; - for standard input; with --finish the default is {}",
    )
    publish.add_argument("--event", metavar="NAME", help="the type of the event; default: message")
    publish.add_argument(
        "--finish", action="store_true", help="end the channel with this event, or after the lines"
    )
    publish.add_argument(
        "--lines", action="store_true", help="publish each line of standard input as an event, as soon as it comes"
    )
    publish.add_argument("--to", metavar="URL", help="send to the publisher at this address, in place of a log")
    publish.add_argument("--token-file", metavar="FILE", help="the file with the publisher's token")
    publish.set_defaults(run=_publish, usage_error=publish.error)
    return publish


def _add_listen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    listen = commands.add_parser(
        "listen",
        help="print the events of a channel as they come",
        description="Print the events of a channel as they come, in the form in which browsers get them, until "
        "Ctrl-C. The command reads the log itself and needs no server. With the URL of a stream instead of a "
        "channel, it reads this stream and reconnects by itself. It ends when the server answers 204: no more.",
        epilog="Example: sse-threaded listen board-1 --since kxqwzp-17; "
        "sse-threaded listen http://localhost:3000/boards/board-1/events",
    )
    listen.add_argument(
        "channel",
        metavar="CHANNEL",
        nargs="+",
        help="the name of the channel, or several names; or one http:// or https:// URL (needs the extra client)",
    )
    listen.add_argument("--since", metavar="ID", help="begin after this event; default: with the next event")
    listen.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header field of the request to a URL, such as 'Authorization: Bearer ...'; may be repeated",
    )
    listen.set_defaults(run=_listen)
    return listen


def _add_schema(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    schema = commands.add_parser(
        "schema",
        help="print the SQL that makes a log in PostgreSQL",
        description="Print the SQL that makes the tables and functions of a log in PostgreSQL, for a migration. "
        "The command does not connect to PostgreSQL. Where everything exists, the SQL changes nothing.",
        epilog="Example: sse-threaded schema --url postgresql://db/shop --role shop | psql postgresql://db/shop",
    )
    schema.add_argument(
        "--role", metavar="NAME", help="also print the grants that the role of the app needs, if it is another one"
    )
    schema.set_defaults(run=_schema)
    return schema


def _serve(options: argparse.Namespace) -> int:
    os.environ[URL] = options.url
    command = [sys.executable, "-m", "gunicorn", "-c", _CONFIG, *options.gunicorn_flags]
    os.execv(sys.executable, command)


def _publish(options: argparse.Namespace) -> int:
    fault = _fault_of(options)
    if fault:
        options.usage_error(fault)
    if options.channel.startswith(RESERVED_PREFIX):
        raise reserved(options.channel)
    batches = _batches(options)
    if options.to:
        _publish_all(batches, PublisherClient(options.to, read_token(options.token_file)).publish)
        return 0
    log = _open(options.url)
    try:
        _publish_all(batches, lambda events: _append(log, events))
    finally:
        log.close()
    return 0


def _fault_of(options: argparse.Namespace) -> str:
    """Return why arguments of ``publish`` do not fit together; ``""`` if they do."""
    if options.lines and options.data not in (None, "-"):
        return "--lines reads standard input; leave DATA out"
    if options.data is None and not (options.lines or options.finish):
        return "give DATA, or - for standard input, or --lines, or --finish"
    if options.finish and options.event and not options.lines:
        return "--finish and --event do not fit together: the last event has a name of its own"
    if bool(options.to) != bool(options.token_file):
        return "--to URL and --token-file FILE need each other"
    return ""


def _batches(options: argparse.Namespace) -> Iterable[list[Event]]:
    """Return the events to publish, in batches of one transaction each."""

    def event(data: str, name: str | None) -> Event:
        return Event(*validate_event(options.channel, data, name))

    if options.lines:
        lines = batches_of_lines(cast(BufferedReader, sys.stdin.buffer))
        batches = ([event(line, options.event) for line in batch] for batch in lines)
        return chain(batches, [[event("{}", FINISHED)]] if options.finish else [])
    try:
        data = sys.stdin.buffer.read().decode() if options.data == "-" else options.data
    except UnicodeDecodeError as error:
        raise InvalidEvent("data", f"standard input is not UTF-8 (byte {error.start + 1}); send text") from None
    return [[event("{}" if data is None else data, FINISHED if options.finish else options.event)]]


def _append(log: EventLog, events: Sequence[Event]) -> list[str]:
    if len(events) == 1:
        return [log.append(*events[0])]
    with log.transaction() as transaction:
        return [transaction.append(*event) for event in events]


def _publish_all(batches: Iterable[list[Event]], publish: Callable[[Sequence[Event]], list[str]]) -> None:
    for batch in batches:
        print(*publish(batch), sep="\n", flush=True)  # noqa: T201


def _listen(options: argparse.Namespace) -> int:
    if any(channel.lower().startswith(("http://", "https://")) for channel in options.channel):
        return _listen_to_url(options)
    if options.header:
        raise SSEError("--header belongs to a URL; the log has no header fields")
    for channel in options.channel:
        validate_channel(channel)
    log = _open(options.url)
    doorbell = log.open_doorbell()
    try:
        cursor = Cursor(log, options.channel, options.since)
        while cursor.reset is None:
            data = _next_events(cursor, doorbell)
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                select.select([doorbell], [], [], log.poll_interval)
                doorbell.clear()
        print(f"sse-threaded: cannot begin after {options.since!r}: {_REASONS[cursor.reset]}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        doorbell.close()
        log.close()


def _listen_to_url(options: argparse.Namespace) -> int:
    if len(options.channel) > 1:
        raise SSEError("give one URL, or names of channels; a URL has its own command")
    try:
        from .client import command  # noqa: PLC0415  # needs an extra
    except ImportError as error:
        raise SSEError(str(error)) from None
    return command.listen(options.channel[0], options.since, options.header)


def _next_events(cursor: Cursor, doorbell: Doorbell) -> bytes:
    """Return the bytes of the next events; wait while the log cannot be reached."""
    has_warned = False
    while True:
        try:
            return cursor.read_wire()
        except LogUnavailable as error:
            if not has_warned:
                print(f"sse-threaded: waiting: {error}", file=sys.stderr)  # noqa: T201
            has_warned = True
            select.select([doorbell], [], [], _RETRY_SECONDS)
            doorbell.clear()


def _schema(options: argparse.Namespace) -> int:
    if not options.url.startswith(POSTGRES):
        form = "give --url postgresql://host/database"
        raise LogUnusable(without_secret(options.url), f"only a log in PostgreSQL has SQL to print; {form}")
    address = parse_postgres_url(options.url)
    granted = grants(address, options.role) if options.role else []
    for statement in ("BEGIN", *statements(address), *granted, "COMMIT"):
        print(f"{statement.rstrip().rstrip(';')};\n")  # noqa: T201
    return 0


_REASONS = {
    "malformed": "it is not the id of an event; ids look like kxqwzp-17",
    "epoch": "it belongs to another log",
    "beyond": "the log has no such event yet",
    "expired": "the events after it are no longer kept",
}


def _open(url: str) -> EventLog:
    if url == "memory://":
        others = "give --url sqlite:///file.db, postgresql://host/database or redis://host:6379/0"
        raise LogUnusable(url, f"belongs to one process, and no command can read it; {others}")
    if url.startswith("sqlite:"):
        path, _ = parse_url(url)
        if not os.path.exists(path):
            raise LogUnusable(
                url, f"{path!r} does not exist; start the server first, or give the URL of its log with --url"
            )
    return open_log(url, AS_OTHERS_KEEP)  # only the app knows how many events are kept


if __name__ == "__main__":
    sys.exit(main())
