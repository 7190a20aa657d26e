"""The same beneath tracers, each with its own middleware around the app and its own hooks in Flask and Django."""

from __future__ import annotations

import unittest
from concurrent.futures import ThreadPoolExecutor

from tests.live.wrappers.exercise import WRAPPERS
from tests.live.wrappers.servers import SERVERS
from tests.live.wrappers.test_wrappers import ServerCase
from tests.support import free_port, once

load_tests = once

# The package that is found among those that a stream's warning names.
TRACERS = {"sentry": "sentry_sdk", "opentelemetry": "opentelemetry", "ddtrace": "ddtrace"}

_AT_ONCE = 6

NAMES = (
    *("bare", "for_admin", "until_done", "raising", "plain_for", "positive", "in_a_circle"),
    *("flask_bare", "flask_after_request", "flask_with_context", "bottle", "django_bare", "django_replacing"),
)


class TracedTest(ServerCase):
    def test_every_tracer_passes_on_what_the_wrappers_give_and_lets_go(self):
        wrappers = [wrapper for wrapper in WRAPPERS if wrapper.name in NAMES]
        self.assertEqual(len(wrappers), len(NAMES))
        runs = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for server in SERVERS:
                for tracer in TRACERS:
                    env = {"app": "tests.live.wrappers.traced", "TRACER": tracer, "TRACER_PORT": str(free_port())}
                    runs[server, tracer] = pool.submit(self.exercise, server, wrappers, **env)
        for (server, tracer), run in runs.items():
            outcome, printed = run.result()
            self.check(outcome, tracer=tracer, server=server)
            if server == "worker":
                self.assertIn(f"; {TRACERS[tracer]}.", printed)  # it was there


if __name__ == "__main__":
    unittest.main()
