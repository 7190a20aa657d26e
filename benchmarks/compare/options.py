"""The command line: which servers, streams, channels and scenarios, and which other checkouts."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from ..common.paths import DOCS
from .scenarios import SCENARIOS
from .servers import SERVERS

_PROGRAM = "python -m benchmarks.compare"

_STREAMS = (100, 1000, 5000, 15000)
_CHANNELS = (1, 1000)
_WORKERS = (1, 2)
_KEYS = [server.key for server in SERVERS]


def options(description: str) -> argparse.Namespace:
    """Parse the command line.

    :param description: the first sentence of ``--help``.
    """
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=description)
    names = ", ".join([*_KEYS, *SCENARIOS])
    parser.add_argument("--only", help=f"servers and scenarios, separated by commas: {names}")
    parser.add_argument(
        "--targets", action="store_true", help="measure only the figures that the table of targets shows"
    )
    parser.add_argument(
        "--package",
        action="append",
        type=package,
        default=[],
        metavar="NAME=FOLDER",
        help="measure this package also from another checkout, in the same rounds, in the rows KEY@NAME; may be "
        "given several times",
    )
    parser.add_argument(
        "--streams",
        help=f"default {','.join(map(str, _STREAMS))}, and the numbers of streams that only some targets have",
    )
    parser.add_argument("--channels", default=",".join(map(str, _CHANNELS)), help="default %(default)s")
    parser.add_argument("--workers", default=",".join(map(str, _WORKERS)), help="default %(default)s")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="for how long events are published; default 2")
    parser.add_argument("--quick", action="store_true", help="one round, 1000 and 5000 streams, small scenarios")
    parser.add_argument(
        "--into", type=Path, help="the folder to write into; default: docs, with --quick a temporary folder"
    )
    parser.add_argument(
        "--cache", type=Path, help="the folder for other servers; default: ~/.cache/sse-threaded-bench"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing; write the page and the picture from the JSON"
    )
    found = parser.parse_args()
    found.packages = dict(found.package)
    found.command = shown_command(found)
    if found.quick:
        found.streams, found.channels, found.workers = "1000,5000", "1", "1"
    found.whole = not found.streams
    found.streams = found.streams or ",".join(map(str, _STREAMS))
    found.rounds = found.rounds or (1 if found.quick else 3)
    found.seconds = found.seconds or 2.0
    found.into = found.into or (Path(tempfile.gettempdir()) / "benchmarks" if found.quick else DOCS)
    for name in ("streams", "channels", "workers"):
        setattr(found, name, [int(number) for number in getattr(found, name).split(",")])
    found.only = found.only.split(",") if found.only else [*_KEYS, *SCENARIOS]
    unknown = set(found.only) - {*_KEYS, *SCENARIOS}
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {names}")
    return found


def package(text: str) -> tuple[str, Path]:
    """Return the name and the folder of another checkout.

    :raises argparse.ArgumentTypeError: it is not one.
    """
    name, _, folder = text.partition("=")
    checkout = Path(folder).resolve()
    if re.fullmatch("[a-z0-9.-]+", name) is None:
        raise argparse.ArgumentTypeError(f"{text}: write a name of small letters and digits, then = and a folder")
    if not (checkout / "sse_threaded" / "__init__.py").exists():
        raise argparse.ArgumentTypeError(f"{folder} has no folder sse_threaded; give a checkout of this package")
    return name, checkout


def shown_command(found: argparse.Namespace) -> str:
    """Return the command for the report, which must not name folders of this machine."""
    words = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
    pairs = []
    for word in dict.fromkeys(words):
        value = getattr(found, word[2:])
        if word == "--package":
            pairs += [f"--package {name}=..." for name in found.packages]
        elif word not in ("--into", "--cache"):
            pairs.append(word if value is True else f"{word} {value}")
    return " ".join([_PROGRAM, *pairs])
