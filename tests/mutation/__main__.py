"""Mutation testing, in three steps:

    python -m tests.mutation reach                          which tests run which lines (once, some minutes)
    python -m tests.mutation run --seed 7 --count 250       try a sample; goes on where it was interrupted
    python -m tests.mutation report --seed 7                the result as a page in Markdown

The sample is drawn from the modules of the package that deliver events: all but the board, the bench, the testing
helpers and the command line. A mutant is caught when a test fails, or when a test takes far longer than usual.
Only tests that run the changed line are tried: unit tests first, then those with servers. Results are kept in
``.mutation`` in the checkout. Needs ``pip install '.[test]' coverage``.

For a quick look, ``--folder unit`` tries the unit tests only, and ``--below sse_threaded/log`` draws from part of
the package. Each pair of folders and seed has results of its own.

``tests/mutation/equivalent.json`` has the changes that no test can see, each with the reason.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from itertools import count as counter
from pathlib import Path
from typing import NamedTuple

from tests.mutation import reach
from tests.mutation.mutants import Mutant, mutants_of
from tests.support import CHECKOUT, ROOT

PLACE = ROOT / ".mutation"

EQUIVALENT = Path(__file__).with_name("equivalent.json")

_LEFT_OUT = ("board", "bench", "testing", "cli.py")

# Characters of a change that a report shows.
_SHOWN = 90

# One test may take so many seconds before it counts as caught. The longest take 3 and 40 on a quiet machine.
_UNIT_SECONDS, _SERVER_SECONDS = 30, 150

# Seconds of tests with servers that a mutant gets at most.
_SLOW_SECONDS = 240


CAUGHT = ("failed", "hung")


class Verdict(NamedTuple):
    """What became of a mutant.

    :ivar by: the test that caught it; ``""`` where none did.
    :ivar how: ``"failed"``, ``"hung"``, ``"survived"``, or ``"not run"`` where no test runs the line.
    """

    mutant: Mutant
    by: str
    how: str
    seconds: float


class Equivalent(NamedTuple):
    """A change that no test can see.

    :ivar path: the module's, below the checkout.
    :ivar line: the text of the line where the change begins, so that a reason holds when lines move.
    :ivar after: what the change puts there.
    :ivar why: why it changes nothing that anyone can see.
    """

    path: str
    line: str
    after: str
    why: str


def sample(seed: int, count: int, below: Sequence[str] = ("",)) -> list[Mutant]:
    """Mutants drawn at random, the same for the same seed and source."""
    found: list[Mutant] = []
    for path in sorted((ROOT / "sse_threaded").rglob("*.py")):
        name = path.relative_to(ROOT)
        if name.parts[1] not in _LEFT_OUT and str(name).startswith(tuple(below)):
            found += mutants_of(str(name), path.read_bytes())
    return random.Random(seed).sample(found, min(count, len(found)))


def run(drawn: Sequence[Mutant], results: Path, reached: reach.Reached, jobs: int) -> None:
    """Try mutants, ``jobs`` at a time, and write each verdict down."""
    known = {verdict.mutant for verdict in load(results)}
    left = [mutant for mutant in drawn if mutant not in known]
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            tree = Path(directory, str(number))
            ignored = shutil.ignore_patterns(".git", ".nox", ".venv*", ".mutation", "__pycache__")
            shutil.copytree(ROOT, tree, symlinks=True, ignore=ignored)
            trees.put(tree)

        def attempt_in_a_tree(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                return judge(mutant, tree, reached)
            finally:
                trees.put(tree)

        verdicts = as_completed([pool.submit(attempt_in_a_tree, mutant) for mutant in left])
        try:
            for number, verdict in enumerate((done.result() for done in verdicts), len(drawn) - len(left) + 1):
                save(results, [verdict], "a")
                told = f"{verdict.how} {verdict.by} {verdict.mutant.name}"
                print(f"{number}/{len(drawn)} {told}", flush=True)  # noqa: T201
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(_running):
                end(process)
            raise


def judge(mutant: Mutant, tree: Path, reached: reach.Reached) -> Verdict:
    """Change the module in ``tree``, and run the tests that run the line, until one fails."""
    begun = time.monotonic()
    tests = reached.tests(mutant.path, mutant.line)
    slow_seconds = 0.0
    with changed(mutant, tree):
        # One process runs all unit tests. The others get one for each module: some want to be alone.
        runs = [[test.test for test in tests if test.folder == "unit"]]
        for test in tests:
            if test.folder != "unit" and slow_seconds + test.seconds <= _SLOW_SECONDS:
                slow_seconds += test.seconds
                runs.append([test.test])
        for names in filter(None, runs):
            how, by = attempt(names, tree)
            if how != "passed":
                return Verdict(mutant, by, how, time.monotonic() - begun)
    return Verdict(mutant, "", "survived" if tests else "not run", time.monotonic() - begun)


_changes = counter(1)


@contextmanager
def changed(mutant: Mutant, tree: Path) -> Iterator[None]:
    """A copy of the package with the change in it, and afterwards without.

    Each content gets a time of its own, by which Python sees whether the bytecode still holds. So bytecode may be
    written, and a process that was left behind cannot pass its own on.
    """
    path = tree / mutant.path
    source, status = path.read_bytes(), path.stat()
    path.write_bytes(mutant.apply(source))
    os.utime(path, (status.st_atime, status.st_mtime + 10 * next(_changes)))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def attempt(tests: Sequence[str], tree: Path) -> tuple[str, str]:
    """Run test modules in one process: what came out, and which test failed."""
    limit = _UNIT_SECONDS if tests[0].startswith("tests.unit.") else _SERVER_SECONDS
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile("w+") as output:
        # A session of its own, so that all that the tests have started can be ended.
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.attempt", str(limit), *tests], cwd=tree,
            env={**environment, "PYTHONPATH": str(tree)}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        _running.add(process)
        try:
            how = {0: "passed", 2: "failed"}.get(process.wait(), "hung")
        finally:
            _running.discard(process)
            end(process)
        output.seek(0)
        return how, "" if how == "passed" else output.read().strip().rpartition("\n")[2]


# The processes of the attempts that go on now.
_running: set[subprocess.Popen[bytes]] = set()


def end(process: subprocess.Popen[bytes]) -> None:
    """End an attempt, and all that its tests have started and left in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def save(results: Path, verdicts: Sequence[Verdict], mode: str = "w") -> None:
    """Write verdicts down, one a line."""
    with results.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps([list(verdict.mutant), *verdict[1:]]) + "\n" for verdict in verdicts)


def load(results: Path) -> list[Verdict]:
    """The verdicts so far."""
    if not results.exists():
        return []
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return [Verdict(Mutant(*row[0]), *row[1:]) for row in rows]


def report(seed: int, verdicts: Sequence[Verdict]) -> str:
    """The result as a page: how many were caught in each room, each hole, and each change that is equivalent."""
    reasons = {one[:3]: one.why for one in equivalent()}
    holes, argued = [], []
    rooms: dict[str, list[Verdict]] = {}
    for verdict in sorted(verdicts):
        rooms.setdefault(str(Path(verdict.mutant.path).parent), []).append(verdict)
        mutant = verdict.mutant
        row = f"| {mutant.path}:{mutant.line} | {_shown(mutant.before)} | {_shown(mutant.after)} |"
        if verdict.how not in CAUGHT:
            why = reasons.get((mutant.path, line_of(mutant), mutant.after))
            holes += [row] if why is None else []
            argued += [f"{row} {why} |"] if why is not None else []
    caught, real = _caught(verdicts), len(verdicts) - len(argued)
    lines = [
        "# Mutation testing", "",
        "A mutant is the package with one small change. Some test should fail on it. If no test can see the",
        "change, it is equivalent. `python -m tests.mutation --help` says how this page is made.",
        "It shows a draw as it was: some of the holes have got a test since.", "",
        f"- Seed: {seed}", f"- Mutants: {len(verdicts)}", f"- Caught: {caught}", f"- Equivalent: {len(argued)}",
        f"- Holes: {len(holes)}", f"- Caught of those that are not equivalent: {caught / max(real, 1):.1%}", "",
        "| room | mutants | caught |", "|---|---|---|",
        *(f"| {room} | {len(found)} | {_caught(found)} |" for room, found in sorted(rooms.items())),
    ]  # fmt: skip
    if holes:
        lines += ["", "## Holes", "", "| where | from | to |", "|---|---|---|", *holes]
    if argued:
        lines += ["", "## Equivalent", "", "| where | from | to | why |", "|---|---|---|---|", *argued]
    return "\n".join(lines)


def equivalent() -> list[Equivalent]:
    """The changes that are known to be equivalent."""
    return [Equivalent(**row) for row in json.loads(EQUIVALENT.read_text(encoding="utf-8"))]


def stale() -> list[Equivalent]:
    """The reasons of changes that are not possible any more, as the source has changed."""
    changes = {(mutant.path, line_of(mutant), mutant.after) for mutant in sample(0, sys.maxsize)}
    return [one for one in equivalent() if one[:3] not in changes]


def line_of(mutant: Mutant) -> str:
    """The text of the line where the change begins."""
    return (CHECKOUT / mutant.path).read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()


def _shown(text: str) -> str:
    return "`" + " ".join(text.split())[:_SHOWN].replace("|", "\\|") + "`"


def _caught(verdicts: Sequence[Verdict]) -> int:
    return sum(verdict.how in CAUGHT for verdict in verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["reach", "run", "report"])
    parser.add_argument("--seed", type=int, default=1, help="which sample; default 1")
    parser.add_argument("--count", type=int, default=250, help="how many mutants; default 250")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default 2")
    parser.add_argument(
        "--below", action="append", metavar="PATH", help="draw from this part of the package; may be repeated"
    )
    parser.add_argument("--again", action="store_true", help="try again those that survived")
    parser.add_argument(
        "--folder", action="append", choices=reach.FOLDERS, help="tests of this folder only; may be repeated"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end that is as orderly as Ctrl-C
    folders = options.folder or reach.FOLDERS
    name = "-".join([f"seed-{options.seed}", *(options.folder or ())])
    results = PLACE / f"{name}.jsonl"
    if options.step == "reach":
        reach.measure(PLACE / "reach", folders, options.jobs)
    elif options.step == "run":
        if options.again:
            save(results, [verdict for verdict in load(results) if verdict.how in CAUGHT])
        drawn = sample(options.seed, options.count, options.below or [""])
        run(drawn, results, reach.load(PLACE / "reach", folders), options.jobs)
    else:
        print(report(options.seed, load(results)))  # noqa: T201
        for one in stale():
            print(f"a reason without its change: {one.path}: {one.line}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
