"""Replaces the server under load, in the ways of gunicorn's manual: ``python -m benchmarks.reload`` (two minutes).

The board runs with deploy/gunicorn.conf.py. Clients that behave like ``EventSource`` follow it, and events are
published all the time. Then the server is replaced: by SIGHUP, by SIGUSR2, and as a service whose listening
socket systemd keeps. The command prints a table. ``--write`` writes it to docs/reload.md, and the picture to
docs/reload.svg.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness.redis_server import RedisServer

from ..common import machine
from ..common.file_limit import raise_file_limit
from ..common.paths import DOCS
from .experiment import run
from .plot import draw
from .result import KINDS, Result, table

DOCUMENT, PICTURE = DOCS / "reload.md", DOCS / "reload.svg"


@contextmanager
def _log(kind: str, directory: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{directory}/log.db"
    else:
        with closing(RedisServer("--appendonly", "yes", "--loglevel", "warning")) as server:
            yield server.url()


_TEXT = """
This page shows a deploy while pages are open. The board runs with `deploy/gunicorn.conf.py`, two workers and the
backlog of `deploy/sse-threaded.socket`. The clients behave like `EventSource`. When a stream ends, they wait for
the last reconnection time that the stream sent. Then they reconnect with their last event ID. The events of each
client are compared with the log.

{table}

![When clients should reconnect, and when they had a stream again, after the signal]({picture})

- **SIGHUP**: the same master starts new workers and ends the old ones. **SIGUSR2**: a new master starts beside
  the old one, on the same listening socket. Two seconds later the old one gets SIGTERM, and the times count from
  then. **Socket activation**: systemd keeps the listening socket (`LISTEN_FDS`). The service ends on SIGTERM and
  is started again, as `systemctl restart` does with a `.socket` unit. Until then connections wait in the kernel.
- **greatest : mean** shows how evenly the clients return. Three things are counted for each tenth of a second,
  from the shortest to the longest reconnection time. They are the clients that should reconnect, the connects,
  and the streams that begin. The row has the greatest count, divided by the mean. The last row is this ratio for
  random times. While the clients know nothing of each other, they cannot return more evenly.
- **Connects** are late if the client had no processor. It is one process that also reads all events on the same
  two cores. **Streams begun** are also late while no server answers.
- The publisher repeats a POST when the server has closed its connection. Such a POST may be in the log twice, as
  two events with two ids.
"""


def main() -> None:
    """Run all ways and print, or write, the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=2000, help="how many clients; default %(default)s")
    parser.add_argument("--rate", type=float, default=20.0, help="events a second; default %(default)s")
    parser.add_argument(
        "--retry", type=int, default=5000, help="the reconnection time in milliseconds; default %(default)s"
    )
    parser.add_argument("--log", choices=("sqlite", "redis"), default="sqlite", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--only", help=f"which ways, separated by commas: {', '.join(KINDS)}")
    parser.add_argument("--write", action="store_true", help="write docs/reload.md and docs/reload.svg")
    wanted = parser.parse_args()
    raise_file_limit()
    found: dict[str, list[Result]] = {kind: [] for kind in (wanted.only.split(",") if wanted.only else KINDS)}
    for kind, rounds in [each for _ in range(wanted.rounds) for each in found.items()]:
        with (
            tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name,
            _log(wanted.log, Path(name)) as url,
        ):
            one = run(kind, url, Path(name), streams=wanted.streams, rate=wanted.rate, retry=wanted.retry)
        rounds.append(one)
        print(f"{kind}: all back after {one.seconds:.2f} s, {one.lost} lost", file=sys.stderr)  # noqa: T201
    lines = table(found)
    print("\n".join(lines))  # noqa: T201
    if wanted.write:
        load = f"{wanted.streams:,} streams, {wanted.rate:g} events a second, {wanted.log} log"
        setup = f"{load}. It ran on {machine.summary()}. The table has all {wanted.rounds} rounds"
        command = " ".join(["python -m benchmarks.reload", *sys.argv[1:]])
        text = _TEXT.format(table="\n".join(lines), picture=PICTURE.name)
        DOCUMENT.write_text(f"# A reload under load\n\nBy `{command}`: {setup}.\n{text}")
        draw(found, PICTURE)


if __name__ == "__main__":
    main()
