"""The same beneath tracers, each with its own middleware around the app and its own hooks in Flask and Django.

Not every wrapper runs beneath every tracer on every server. A fault shows in a pair of tracer and wrapper, of
tracer and server, or of wrapper and server, and all such pairs are tested. Each tracer has all wrappers on this
package's worker. The other servers share the wrappers, and divide them differently for each tracer.
test_wrappers.py has all wrappers on all servers, without a tracer.
"""

from __future__ import annotations

import unittest
from concurrent.futures import ThreadPoolExecutor

from tests.live.wrappers.exercise import WRAPPERS
from tests.live.wrappers.servers import SERVERS
from tests.live.wrappers.test_wrappers import ServerCase
from tests.support import free_port

ONCE = True  # it says the same under every Python

# The package that is found among those that a stream's warning names.
TRACERS = {"sentry": "sentry_sdk", "opentelemetry": "opentelemetry", "ddtrace": "ddtrace"}

_AT_ONCE = 3

NAMES = (
    *("bare", "for_admin", "until_done", "raising", "plain_for", "positive", "in_a_circle"),
    *("flask_bare", "flask_after_request", "flask_with_context", "bottle", "django_bare", "django_replacing"),
)


def divided(tracer):
    """The wrappers to try on each server."""
    wrappers = [wrapper for wrapper in WRAPPERS if wrapper.name in NAMES]
    own, *others = SERVERS
    turn = list(TRACERS).index(tracer)
    shares = {server: wrappers[(place + turn) % len(others) :: len(others)] for place, server in enumerate(others)}
    return {own: wrappers, **shares}


class TracedCase(ServerCase):
    def assert_passed_on(self, tracer):
        """The tracer passes on what the wrappers give, and lets go."""
        runs = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for server, wrappers in divided(tracer).items():
                env = {"app": "tests.live.wrappers.traced", "TRACER": tracer, "TRACER_PORT": str(free_port())}
                runs[server] = pool.submit(self.exercise, server, wrappers, **env)
        for server, run in runs.items():
            outcome, printed = run.result()
            self.check(outcome, tracer=tracer, server=server)
            if server == "worker":
                self.assertIn(f"; {TRACERS[tracer]}.", printed)  # it was there


# A class for each tracer, as the runner hands out classes.


class SentryTest(TracedCase):
    def test_it_passes_on_what_the_wrappers_give_and_lets_go(self):
        self.assert_passed_on("sentry")


class OpenTelemetryTest(TracedCase):
    def test_it_passes_on_what_the_wrappers_give_and_lets_go(self):
        self.assert_passed_on("opentelemetry")


class DdtraceTest(TracedCase):
    def test_it_passes_on_what_the_wrappers_give_and_lets_go(self):
        self.assert_passed_on("ddtrace")


class DivisionTest(unittest.TestCase):
    def test_all_pairs_are_there(self):
        triples = [
            (tracer, server, wrapper.name)
            for tracer in TRACERS
            for server, wrappers in divided(tracer).items()
            for wrapper in wrappers
        ]
        self.assertEqual(len({(tracer, server) for tracer, server, _ in triples}), len(TRACERS) * len(SERVERS))
        others = [(tracer, wrapper) for tracer, server, wrapper in triples if server != SERVERS[0]]
        self.assertEqual(len(others), len(set(others)))
        self.assertEqual(len(others), len(TRACERS) * len(NAMES))


if __name__ == "__main__":
    unittest.main()
