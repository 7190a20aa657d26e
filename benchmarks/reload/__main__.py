"""Replaces the server under load, in the ways of gunicorn's manual: ``python -m benchmarks.reload`` (two minutes).

The board runs with deploy/gunicorn.conf.py. Clients that behave like ``EventSource`` follow it, and events are
published all the time. Meanwhile the server is replaced: by SIGHUP, by SIGUSR2, and as a service whose listening
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
How a deploy goes while pages are open. The board runs as `deploy/gunicorn.conf.py` says, with two workers and the
backlog of `deploy/sse-threaded.socket`. The clients behave as `EventSource` does: when a stream ends they wait for
the reconnection time they were last told, then come back with their last event ID. Each client's events are
compared with the log's own list.

{table}

![When clients were told to come, and had come, by tenths of a second after the signal: the last round]({picture})

- **SIGHUP**: the same master starts new workers and ends the old ones. **SIGUSR2**: a new master starts beside the
  old one, on the same listening socket; two seconds later the old one gets SIGTERM, from which the times count.
  **Socket activation**: systemd keeps the listening socket (`LISTEN_FDS`); the service ends on SIGTERM and is then
  started again, as `systemctl restart` does with a `.socket` unit. Meanwhile connections wait in the kernel.
- **The window** is from the shortest to the longest reconnection time told. In it are counted, by tenths of a
  second: when clients were told to come, when they connected, when their streams had begun. Random numbers are not
  even either: so the table has what the greatest of so many tenths is to their mean if each client's is drawn at
  random, as flat as it can be without the clients knowing of each other.
- **Connects** lag behind where the client, one process that reads all events meanwhile on the same two cores, had
  no processor; **streams begun** also where no server is there yet to answer.
- The publisher repeats a POST whose kept connection the server has closed; such a POST may be in the log twice, as
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
        setup = f"{load}; {machine.summary()}; {wanted.rounds} rounds, of which the table has all"
        command = " ".join(["python -m benchmarks.reload", *sys.argv[1:]])
        text = _TEXT.format(table="\n".join(lines), picture=PICTURE.name)
        DOCUMENT.write_text(f"# A reload under load\n\nBy `{command}`: {setup}.\n{text}")
        draw(found, PICTURE)


if __name__ == "__main__":
    main()
