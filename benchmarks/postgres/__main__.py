"""Measures the log in PostgreSQL beside the others: ``python -m benchmarks.postgres`` (six minutes).

It starts a redis-server and a PostgreSQL, whose files are in the folder for temporary files. The command prints
the page. ``--write`` writes it to docs/postgresql-measured.md, and the figures to docs/postgresql-measured.json.
Parts that are not measured stay as they are there. ``--minutes 60`` measures the sizes of the tables for an hour;
by default they are not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from ..common import machine
from ..common.file_limit import raise_file_limit
from .delivery import delivery
from .open_transaction import open_transaction
from .processor import processor
from .publishing import publishing
from .report import DOCUMENT, FIGURES, PARTS, report
from .servers import Servers
from .sizes import sizes
from .ways import ways

_PROGRAM = "python -m benchmarks.postgres"


def measured(wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure the parts that are wanted."""
    raise_file_limit()
    quick = wanted.quick
    found: dict[str, Any] = {"machine": machine.summary(), "commands": {}}
    with Servers() as servers:
        found["versions"] = servers.versions()
        measures: dict[str, Callable[[], Any]] = {
            "publishing": lambda: publishing(servers, 0.5 if quick else 2.0),
            "delivery": lambda: delivery(servers, 20 if quick else 120),
            "processor": lambda: processor(1 if quick else 3, 10 if quick else 30),
            "ways": lambda: ways(servers.postgres, 1.0 if quick else 2.0, wanted.open / 4),
            "open": lambda: open_transaction(servers, wanted.open),
            "sizes": lambda: sizes(servers, wanted.minutes),
        }
        for name in PARTS:
            if name in wanted.only and (name != "sizes" or wanted.minutes):
                begun = time.monotonic()
                found[name] = measures[name]()
                found["commands"][name] = wanted.command
                print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)  # noqa: T201
    return found


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help=f"the parts, separated by commas: {', '.join(PARTS)}")
    parser.add_argument(
        "--open", type=float, default=60.0, metavar="SECONDS", help="how long a transaction stays open; default 60"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="for how long the sizes are measured; default: they are not"
    )
    parser.add_argument("--quick", action="store_true", help="a small run, whose figures mean little")
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name} and docs/{FIGURES.name}")
    parser.add_argument("--render", action="store_true", help=f"measure nothing; use docs/{FIGURES.name}")
    wanted = parser.parse_args()
    wanted.only = wanted.only.split(",") if wanted.only else list(PARTS)
    unknown = set(wanted.only) - set(PARTS)
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    wanted.command = " ".join([_PROGRAM, *sys.argv[1:]])  # it names no folder
    return wanted


def main() -> None:
    """Measure; print the page, or write it."""
    wanted = options()
    before = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    found = before if wanted.render else measured(wanted)
    print(report(found))  # noqa: T201
    if wanted.write:
        commands = {**before.get("commands", {}), **found["commands"]}
        found = {**before, **found, "commands": commands}
        FIGURES.write_text(json.dumps(found, indent=1) + "\n")
        DOCUMENT.write_text(report(found))


if __name__ == "__main__":
    main()
