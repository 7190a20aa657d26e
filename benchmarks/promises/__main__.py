"""Measures deliveries, a shutdown, logouts and publishing: ``python -m benchmarks.promises`` (about two minutes).

It runs the board on this machine, by default under plain gthread, and prints a table. ``--write`` replaces the
table in docs/measured.md. It needs curl, nginx, openssl and redis-server.
"""

from __future__ import annotations

import argparse

from ..common import machine
from ..common.paths import DOCS
from .board_times import change_to_curl, change_to_curl_behind_nginx, farewell, first_line_behind_nginx, full_pool
from .logout_times import logouts
from .sqlite_times import appends, beside_another_process

DOCUMENT = DOCS / "measured.md"

MEASUREMENTS = (
    change_to_curl,
    change_to_curl_behind_nginx,
    first_line_behind_nginx,
    farewell,
    full_pool,
    logouts("SQLite"),
    logouts("Redis"),
    appends(""),
    appends("?synchronous=normal"),
    beside_another_process,
)


def main() -> None:
    """Measure everything; print the table, or write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/measured.md")
    wanted = parser.parse_args()
    lines = []
    for measure in MEASUREMENTS:
        row = measure()
        lines.append(f"| {row.what} | {row.figures} |")
        print(lines[-1], flush=True)  # noqa: T201
    if wanted.write:
        setup = f"By `python -m benchmarks.promises --write`: {machine.summary()}; "
        setup += "gunicorn's worker gthread with 64 threads and one process, unless a row says otherwise."
        about = "This page shows how long a delivery, a shutdown, a logout and a publish take."
        text = ["# Measured", "", setup, "", about, "", "| what | figure |", "|---|---|", *lines, ""]
        DOCUMENT.write_text("\n".join(text))


if __name__ == "__main__":
    main()
