"""Mutation testing, in three steps:

    python -m tests.mutation reach                          which tests run which lines (once, some minutes)
    python -m tests.mutation run --seed 7 --count 250       try a sample; goes on where it was interrupted
    python -m tests.mutation report --seed 7                the result as a table in Markdown

The sample is drawn from the modules of the package that deliver events: all but the board, the bench, the testing
helpers and the command line. A mutant is caught when a test fails, or when the tests take far longer than usual.
Only tests that run the changed line are tried: unit tests first, then those with servers. Results are kept in
``.mutation`` in the checkout. Needs ``pip install '.[test]' coverage``.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutation import reach
from tests.mutation.mutants import Mutant, mutants_of
from tests.support import ROOT

PLACE = ROOT / ".mutation"

_LEFT_OUT = ("board", "bench", "testing", "cli.py")

# Characters of a change that a report shows.
_SHOWN = 90

# A run of tests may take so many times as long as usual, and so many seconds more, before it counts as caught.
_FACTOR, _MORE_SECONDS = 4, 60

# Seconds of tests with servers that a mutant gets at most; the quickest modules come first.
_SLOW_SECONDS = 240


class Verdict(NamedTuple):
    """What became of a mutant.

    :ivar by: the test module that caught it; ``""`` where none did.
    :ivar how: ``"failed"``, ``"hung"``, ``"survived"``, or ``"not run"`` where no test runs the line.
    """

    mutant: Mutant
    by: str
    how: str
    seconds: float


def sample(seed: int, count: int) -> list[Mutant]:
    """Mutants drawn at random, the same for the same seed and source."""
    found: list[Mutant] = []
    for path in sorted((ROOT / "sse_threaded").rglob("*.py")):
        below = path.relative_to(ROOT / "sse_threaded")
        if below.parts[0] not in _LEFT_OUT:
            found += mutants_of(str(path.relative_to(ROOT)), path.read_bytes())
    return random.Random(seed).sample(found, min(count, len(found)))


def run(seed: int, count: int, jobs: int) -> None:
    """Try a sample, ``jobs`` mutants at a time, and write each verdict down."""
    results = PLACE / f"seed-{seed}.jsonl"
    done = {verdict.mutant.name for verdict in load(results)}
    left = [mutant for mutant in sample(seed, count) if mutant.name not in done]
    reached = reach.load(PLACE)
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            tree = Path(directory, str(number))
            ignored = shutil.ignore_patterns(".git", ".nox", ".venv*", ".mutation", "__pycache__")
            shutil.copytree(ROOT, tree, symlinks=True, ignore=ignored)
            trees.put(tree)

        def attempt(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return judge(mutant, tree, reached)
            finally:
                trees.put(tree)

        for number, verdict in enumerate(pool.map(attempt, left), len(done) + 1):
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps([list(verdict.mutant), *verdict[1:]]) + "\n")
            print(f"{number}/{count} {verdict.how} {verdict.by} {verdict.mutant.name}", flush=True)  # noqa: T201


def judge(mutant: Mutant, tree: Path, reached: reach.Reach) -> Verdict:
    """Change the module in ``tree``, and run the tests that run the line, until one fails."""
    begun = time.monotonic()
    path = tree / mutant.path
    source = path.read_bytes()
    tests = reached.tests(mutant.path, mutant.line)
    slow_seconds = 0.0
    path.write_bytes(mutant.apply(source))
    try:
        for test in tests:
            if not test.startswith("tests.unit."):
                slow_seconds += reached.seconds[test]
                if slow_seconds > _SLOW_SECONDS:
                    break
            how = _outcome(test, tree, reached.seconds[test] * _FACTOR + _MORE_SECONDS)
            if how != "passed":
                return Verdict(mutant, test, how, time.monotonic() - begun)
    finally:
        path.write_bytes(source)
    return Verdict(mutant, "", "survived" if tests else "not run", time.monotonic() - begun)


def _outcome(test: str, tree: Path, seconds: float) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    # A session of its own, so that all that the tests have started can be ended.
    process = subprocess.Popen(
        [sys.executable, "-m", "tests", "-f", test], cwd=tree, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return "passed" if process.wait(seconds) == 0 else "failed"
    except subprocess.TimeoutExpired:
        return "hung"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def load(results: Path) -> list[Verdict]:
    """The verdicts so far."""
    if not results.exists():
        return []
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return [Verdict(Mutant(*row[0]), *row[1:]) for row in rows]


def report(seed: int) -> str:
    """The result as Markdown: how many were caught in each room, and each survivor."""
    verdicts = load(PLACE / f"seed-{seed}.jsonl")
    rooms: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        rooms.setdefault(str(Path(verdict.mutant.path).parent), []).append(verdict)
    rows = [f"| {room} | {len(found)} | {_caught(found)} |" for room, found in sorted(rooms.items())]
    lines = ["| room | mutants | caught |", "|---|---|---|", *rows]
    lines += [f"| all | {len(verdicts)} | {_caught(verdicts)} |", ""]
    lines += ["| survivor | from | to | why |", "|---|---|---|---|"]
    for verdict in sorted(verdicts):
        if verdict.how in ("survived", "not run"):
            mutant = verdict.mutant
            texts = (
                f"`{' '.join(text.split())[:90]}`".replace("|", "\\|") for text in (mutant.before, mutant.after)
            )
            lines.append(f"| {mutant.path}:{mutant.line} | {' | '.join(texts)} | |")
    return "\n".join(lines)


def _shown(text: str) -> str:
    return "`" + " ".join(text.split())[:_SHOWN].replace("|", "\\|") + "`"


def _caught(verdicts: list[Verdict]) -> int:
    return sum(verdict.how in ("failed", "hung") for verdict in verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["reach", "run", "report"])
    parser.add_argument("--seed", type=int, default=1, help="which sample; default 1")
    parser.add_argument("--count", type=int, default=250, help="how many mutants; default 250")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default 2")
    options = parser.parse_args()
    if options.step == "reach":
        reach.measure(PLACE, options.jobs)
    elif options.step == "run":
        run(options.seed, options.count, options.jobs)
    else:
        print(report(options.seed))  # noqa: T201


if __name__ == "__main__":
    main()
