"""Sentry and OpenTelemetry around a stream: when a transaction or a span ends, and that nothing is left."""

from __future__ import annotations

import unittest
from typing import ClassVar

from sse_threaded.testing import request
from tests.live.frameworks.case import Served
from tests.live.frameworks.test_middleware import DJANGO, FLASK, MiddlewareCase
from tests.support import wait_until

ONCE = True  # the tracers are the same under every Python

_SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

traces = []


def keep(event, hint):  # and send nothing
    traces.append(event["request"]["url"])


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    traces_sample_rate=1.0,
    before_send_transaction=keep,
    integrations=[{}],
    auto_enabling_integrations=False,
    shutdown_timeout=0,
)


def further_state():
    return {{"traces": traces}}
"""
_OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)


def further_state():
    return {"traces": [span.name for span in spans.get_finished_spans()]}
"""


def traces(served: Served) -> list[str]:
    found: list[str] = served.state()["traces"]
    return [each for each in found if "state" not in each]


class TracerCase(MiddlewareCase):
    """A tracer whose span ends before the stream begins."""

    name: ClassVar[str] = "orders/events"

    def check_open(self, served: Served) -> None:
        wait_until(lambda: traces(served), message="the trace to end while the stream is open")
        self.assertEqual(len(traces(served)), 1)
        self.assertIn(self.name, traces(served)[0])

    def check_closed(self, served: Served) -> None:
        self.assertEqual(len(traces(served)), 1)

    def check(self, worker: str) -> None:
        served = self.exercise(worker)
        self.assertEqual(len(traces(served)), 201)  # each opening has its own


class SentryFlaskTest(TracerCase):
    sign = FLASK
    before = _SENTRY.format("FlaskIntegration()")
    threads_keep = True  # seen with this package's worker, whose streams the environ refers to

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class SentryDjangoTest(TracerCase):
    sign = DJANGO
    before = _SENTRY.format("DjangoIntegration()")

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class SentryWsgiTest(TracerCase):
    sign = "return hub.stream(environ"
    before = _SENTRY.format("")
    after = "app = SentryWsgiMiddleware(app)\n"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class OpenTelemetryFlaskTest(TracerCase):
    sign = FLASK
    before = _OPENTELEMETRY
    after = "FlaskInstrumentor().instrument_app(app)\n"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class OpenTelemetryDjangoTest(TracerCase):
    sign = DJANGO
    before = _OPENTELEMETRY
    after = "DjangoInstrumentor().instrument()\napp.load_middleware()\n"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class OpenTelemetryWsgiTest(TracerCase):
    """As the page says: the middleware alone keeps its span while the stream is open."""

    sign = FLASK
    before = _OPENTELEMETRY
    after = "app.wsgi_app = OpenTelemetryMiddleware(app.wsgi_app)\n"
    is_parked = False

    def check_open(self, served: Served) -> None:
        self.assertEqual(traces(served), [])

    def check_closed(self, served: Served) -> None:
        wait_until(lambda: len(traces(served)) == 1, message="the span to end with the stream")

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class OpenTelemetryBesideTest(TracerCase):
    """With the recipe of the page, a stream has no span, and other requests have theirs."""

    sign = "traced = OpenTelemetryMiddleware(flask_app)"
    before = _OPENTELEMETRY

    def check_open(self, served: Served) -> None:
        self.assertEqual(request("GET", f"{served.url}/ping").body, b"pong")
        wait_until(lambda: len(traces(served)) == 1, message="the span of the other request")

    def test_under_gthread(self) -> None:
        self.assertEqual(len(traces(self.exercise("gthread"))), 1)

    def test_under_this_packages_worker(self) -> None:
        self.assertEqual(len(traces(self.exercise("ThreadWorker"))), 1)


if __name__ == "__main__":
    unittest.main()
