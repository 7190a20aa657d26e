"""Numbers that a page or a docstring promises are those of the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import unittest
from collections.abc import Iterator
from typing import Any

from sse_threaded import Hub, Retention, longpoll
from sse_threaded.fanout import lifecycle, registry, serial_wakeup
from sse_threaded.log import SQLiteLog, memory, validation
from sse_threaded.log.redis import listener, scripts
from sse_threaded.log.redis import log as redis_log
from sse_threaded.log.redis import timeouts as redis_timeouts
from sse_threaded.log.sqlite import file as sqlite_file
from sse_threaded.log.sqlite import timeouts as sqlite_timeouts
from sse_threaded.log.sqlite import trimmer
from sse_threaded.server import accept_policy, arrivals, crew, deadlines, iteration, partial_request
from tests.harness.imports import SOURCES, full_name
from tests.support import ROOT

SQLITE, REDIS = sqlite_timeouts.Timeouts(), redis_timeouts.Timeouts()

# Of the feed: whole steps, and the one that has begun.
FEED_BYTES = scripts.FEED_STEP * (scripts.FEED_STEPS + 1)

# Of a worker that is ahead of another one by as many connections as matter.
LEAST_PAUSE = accept_policy._LEAD * accept_policy._PAUSE_A_LEAD


def span(seconds: float) -> str:
    """A time, as a page has it in words."""
    words = {
        0.001: "a millisecond",
        0.5: "half a second",
        1.0: "a second",
        2.0: "two seconds",
        5.0: "five seconds",
    }
    return words[seconds]


# Words that a page must have.
PAGES = {
    "docs/configuration.md": (f"| `Retention(count={Retention().count:_}, age={Retention().age:_.0f})` |",),
    "docs/usage.md": (
        f"raise an exception after {SQLITE.lock:g} seconds",
        f"`publish` retries for {REDIS.retry:g} seconds",
        f"Redis {'.'.join(map(str, redis_log._OLDEST_REDIS))} or newer",
    ),
    "docs/deployment.md": (
        f"long poll takes at most {longpoll.LONGEST_WAIT:g} s.",
        f"a TLS handshake | {deadlines.HEAD_SECONDS:g} s |",
        f"| {deadlines.BODY_SECONDS:g} s, and one more for every {deadlines.BODY_RATE} bytes",
        f"| {deadlines.LONG_BODY_SECONDS:g} s, and one more for every {deadlines.LONG_BODY_RATE:,} bytes",
        f"until the client closes | {deadlines.LINGER_SECONDS:g} s |",
        f"A request of up to {partial_request.BUFFER_BYTES / 1024:g} KiB",
        f"keeps at most {arrivals.BUFFER_LIMIT / 1024**2:g} MiB of incomplete requests",
        f"the newest {scripts.FEED_EVENTS:,} events (at most {FEED_BYTES / 10**6:.0f} MB)",
        f"each process that has streams asks once {span(listener._MASTER_LOOK)} for the master",
    ),
    "docs/design.md": (
        f"the watchman looks every {crew.WAKE_AFTER * 1000:g} ms",
        f"if a request has waited for {crew.WAKE_AFTER * 1000:g} ms",
        f"stores its answer for {scripts.DONE_MS / 1000:g} seconds",
        f"A transaction holds a lock** until it ends, at most for {scripts.LOCK_MS / 1000:g} seconds",
        f"The log remembers {scripts.REMEMBERED_CHANNELS:,} channels without events",
        f"After {serial_wakeup.STUCK_SECONDS * 1000:g} ms a thread loses its token",
        f"A client has {span(registry.GRACE)} to read them ({span(registry.SHUTDOWN_GRACE)} on shutdown)",
        f"The pump also reads the log at least once {span(SQLiteLog.poll_interval)}",
        f"The pump also reads the log at least once {span(redis_log.RedisLog.poll_interval)}",
        f"the log makes the attempts itself, once {span(sqlite_file._LOOK_AGAIN)}",
        f"the mark reaches the disk every {SQLITE.trim:g} seconds",
        f"deletes old events, {trimmer._BATCH} at a time",
        f"A stream that has run for {iteration._SLICE_SECONDS * 1000:g} ms goes to the end of the queue",
        f"accepts up to {accept_policy._ACCEPTS_A_ROUND} connections.",
        f"waits {LEAST_PAUSE * 1000:g} to {accept_policy._LONGEST_PAUSE * 1000:g} ms before it accepts",
    ),
}

# Words that a docstring must have.
DOCSTRINGS = [
    (lifecycle.close_all_when, f"called once {span(registry.TICK)} at least"),
    (Retention, f"default {Retention().count:,}"),
    (Retention, f"default {Retention().age:,.0f}"),
    (longpoll.long_poll, f"default {longpoll.DEFAULT_WAIT:g}, at most {longpoll.LONGEST_WAIT:g}"),
    (validation.validate_channel, f"over {validation.MAX_CHANNEL_CHARACTERS} characters"),
    (validation.validate_event, f"its type, 1 to {validation.MAX_EVENT_CHARACTERS} characters"),
    (validation.validate_event, f"at most {validation.MAX_DATA_CHARACTERS:,} characters"),
    (sqlite_timeouts.Timeouts, f"writers before it; default {SQLITE.lock:g}."),
    (sqlite_timeouts.Timeouts, f"not tried again; default {SQLITE.reopen:g}."),
    (sqlite_timeouts.Timeouts, f"rounds of the trimmer; default {SQLITE.trim:g}."),
    (sqlite_timeouts.Timeouts, f"health check holds; default {SQLITE.health:g}."),
    (redis_timeouts.Timeouts, f"for one connection; default {REDIS.answer:g}."),
    (redis_timeouts.Timeouts, f"tries again; default {REDIS.retry:g}."),
    (redis_timeouts.Timeouts, f"counts as unreachable; default {REDIS.forget:g}."),
    (
        Hub.close,
        f"all streams have ended; default {inspect.signature(Hub.close).parameters['timeout'].default:g}.",
    ),
]

# A parameter's text in a docstring, and a default in it that is a value.
PARAMETER = re.compile(r":param (\w+):((?:(?!\n\s*:|\n\s*\n).)*)", re.DOTALL)
DEFAULT = re.compile(r"\bdefault (``(?:None|True|False|\"\"|[0-9]+)``|[0-9][0-9.,]*[0-9]|[0-9])")

# Parts of the package that need more than the package itself.
LEFT_OUT = ("bench", "board", "cli", "testing")

HUB_DEFAULTS = {"retry": "5000", "heartbeat": "15", "lease": "900", "queue_size": "1000"}


def functions() -> Iterator[tuple[str, str, Any]]:
    """The classes, functions and methods of the package: module, name, and the thing itself."""
    for source in SOURCES:
        if source.partition(".")[0] not in LEFT_OUT:
            module = importlib.import_module(full_name(source))
            for name, thing in list(vars(module).items()):
                if getattr(thing, "__module__", None) != module.__name__:
                    continue  # it is another module's
                if inspect.isclass(thing) or inspect.isfunction(thing):
                    yield module.__name__, name, thing
                if inspect.isclass(thing):
                    methods = (method for method in vars(thing).items() if inspect.isfunction(method[1]))
                    yield from ((module.__name__, f"{name}.{its}", method) for its, method in methods)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


class DocumentedNumbersTest(unittest.TestCase):
    def test_of_the_pages(self) -> None:
        for page, promises in PAGES.items():
            text = in_one_line((ROOT / page).read_text(encoding="utf-8"))
            for words in promises:
                with self.subTest(page=page, words=words):
                    self.assertIn(words, text)

    def test_of_the_docstrings(self) -> None:
        for documented, words in DOCSTRINGS:
            with self.subTest(documented=documented, words=words):
                self.assertIn(words, in_one_line(documented.__doc__ or ""))

    def test_of_the_hub(self) -> None:
        page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
        docstring = in_one_line(Hub.__doc__ or "")
        for name, expected in HUB_DEFAULTS.items():
            with self.subTest(name):
                self.assertEqual(f"{inspect.signature(Hub).parameters[name].default:g}", expected)
                self.assertIn(f"| `{name}` | {expected} |", page)
                self.assertRegex(docstring, rf":param {name}: [^:]*default {expected}\b")

    def test_of_the_defaults(self) -> None:
        found = 0
        for module, name, function in functions():
            for parameter, text in PARAMETER.findall(inspect.getdoc(function) or ""):
                match = DEFAULT.search(in_one_line(text))
                if match is not None:
                    parameters = inspect.signature(function).parameters
                    with self.subTest(module=module, name=name, parameter=parameter):
                        documented = ast.literal_eval(match[1].strip("`").replace(",", ""))
                        default = parameters[parameter].default
                        if default is not inspect.Parameter.empty:  # otherwise it is that of an option in a text
                            self.assertEqual(
                                (default, type(default) is bool), (documented, type(documented) is bool)
                            )
                            found += 1
        self.assertGreater(found, 25)

    def test_all_logs_remember_as_many_channels(self) -> None:
        default = inspect.signature(memory.MemoryLog).parameters["remembered_channels"].default
        self.assertEqual({default, trimmer.REMEMBERED_CHANNELS, scripts.REMEMBERED_CHANNELS}, {10_000})


if __name__ == "__main__":
    unittest.main()
