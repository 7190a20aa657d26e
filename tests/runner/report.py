"""Prints a run as it goes, and counts it."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field

from tests.runner.selection import Module

_SLOWEST = 10
_QUIET_SECONDS = 30.0  # after so long without a line, one says what is running
_RULE = "-" * 100


@dataclass
class Score:
    """What one module has come to so far."""

    passed: int = 0
    failed: set[str] = field(default_factory=set)
    skipped: int = 0
    processor: float = 0.0  # seconds, of its processes and those that these waited for
    started: float = 0.0  # time.monotonic()

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join(parts)


class Report:
    """The output of one run and its counts."""

    def __init__(self, modules: list[Module], *, verbose: bool) -> None:
        self._verbose = verbose
        self._scores = {module.name: Score() for module in modules}
        self._finished: set[str] = set()
        self._tests: list[tuple[float, float, str]] = []
        self._skipped: list[str] = []
        self._warnings: set[str] = set()
        self._began = self._printed = time.monotonic()

    @property
    def passed(self) -> int:
        return sum(score.passed for score in self._scores.values())

    @property
    def failed(self) -> int:
        return sum(len(score.failed) for score in self._scores.values())

    @property
    def skipped(self) -> int:
        return len(self._skipped)

    @property
    def counts(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self._printed = time.monotonic()

    def module_started(self, module: Module) -> None:
        self._scores[module.name].started = time.monotonic()

    def module_finished(self, module: Module) -> None:
        self._finished.add(module.name)
        score = self._scores[module.name]
        seconds = time.monotonic() - score.started
        self.say(
            f"{_clock(self.elapsed)} [{len(self._finished)}/{len(self._scores)}] {module.name}: {score}"
            f" in {seconds:.1f} s, {score.processor:.1f} s of processor"
        )

    def process_ended(self, module: Module, processor: float) -> None:
        self._scores[module.name].processor += processor

    def test_finished(self, module: Module, test: str, outcome: str, seconds: float, processor: float) -> None:
        if outcome == "passed":
            self._scores[module.name].passed += 1
        self._tests.append((seconds, processor, test))
        if self._verbose:
            self.say(f"{outcome or 'did not pass'}: {test} ({seconds:.2f} s, {processor:.2f} s of processor)")

    def test_failed(self, module: Module, test: str, title: str, why: str, output: str) -> None:
        self._scores[module.name].failed.add(test)
        lines = [_RULE, f"FAILED: {title}", why.rstrip()]
        if output.strip():
            lines += ["It printed:", output.rstrip()]
        self.say("\n".join([*lines, _RULE]))

    def test_skipped(self, module: Module, title: str, why: str) -> None:
        self._scores[module.name].skipped += 1
        self._skipped.append(f"  {title}: {why}")

    def warn(self, origin: str, text: str) -> None:
        subject = re.sub(r"0x[0-9a-f]+|\d+", "N", text)  # the same but for its line, address or process
        if subject not in self._warnings:
            self._warnings.add(subject)
            self.say(f"{origin}: {text.rstrip()}")

    def tick(self, running: list[str]) -> None:
        """Say what runs, if nothing was said for a while."""
        if time.monotonic() - self._printed >= _QUIET_SECONDS:
            left = len(self._scores) - len(self._finished)
            self.say(f"{_clock(self.elapsed)} {left} modules left; running: {', '.join(running)}")

    def close(self, *, nothing_may_be_skipped: bool, broken_off: str = "") -> bool:
        """Print the summary; whether all is well."""
        lines = [f"The {_SLOWEST} slowest tests:"]
        lines += [f"{seconds:8.2f} s  {test}" for seconds, _, test in sorted(self._tests, reverse=True)[:_SLOWEST]]
        scores = sorted(self._scores.items(), key=lambda item: -item[1].processor)
        processor = sum(score.processor for _, score in scores)
        lines.append(f"{processor:.0f} s of processor in {self.elapsed:.0f} s; most of it in:")
        lines += [f"{score.processor:8.2f} s  {name}" for name, score in scores[:_SLOWEST]]
        good = not self.failed and not broken_off
        if self.skipped:
            lines += ["Skipped:", *self._skipped]
            if nothing_may_be_skipped:
                good = False
                lines.append("Failed: here nothing may be skipped.")
        if self.failed:
            lines.append("Failed:")
            lines += [f"  {test}" for score in self._scores.values() for test in sorted(score.failed)]
        if not self.passed and not self.failed:
            good = False
            lines.append("Failed: no test ran.")
        if broken_off:
            lines.append(broken_off)
        lines.append(self.counts)
        self.say("\n".join(lines))
        return good


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
