"""Spans of ``sse_threaded.tracing`` beside those of OpenTelemetry's instrumentations: parents and ends."""

from __future__ import annotations

import unittest
from typing import Any, ClassVar

from sse_threaded.testing import request
from tests.live.frameworks.case import Served
from tests.live.frameworks.page import page_block
from tests.live.frameworks.test_middleware import DJANGO, FLASK
from tests.quality.test_examples import blocks
from tests.support import temporary_directory, wait_until

ONCE = True  # the tracers are the same under every Python

_HUB = 'Hub(Path(__file__).with_name("events.db")'
_BEFORE = """
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sse_threaded.tracing import Tracing

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)


def further_state():
    return {
        "spans": [
            {
                "name": span.name,
                "id": span.context.span_id,
                "parent": span.parent and span.parent.span_id,
                "kind": span.kind.name,
                "attributes": dict(span.attributes),
                "seconds": (span.end_time - span.start_time) / 1e9,
                "status": span.status.status_code.name,
            }
            for span in spans.get_finished_spans()
        ]
    }
"""


class SpansCase(unittest.TestCase):
    """A subclass says which example, and what is around it."""

    sign: ClassVar[str]
    after: ClassVar[str] = ""
    has_request_span: ClassVar[bool] = True

    def example(self) -> str:
        return page_block(self.sign).replace(_HUB, f"{_HUB}, observers=[Tracing()]")

    def publish(self, served: Served) -> None:
        self.assertEqual(served.post("/orders", "item=tea").status, 201)

    def serve(self, worker: str) -> Served:
        folder = temporary_directory(self)
        (folder / "example.py").write_text(f"{_BEFORE}\n{self.example()}\n{self.after}", encoding="utf-8")
        return Served(self, folder, worker)

    def spans(self, served: Served) -> dict[str, dict[str, Any]]:
        """The finished spans of requests to the example, by name."""
        found: list[dict[str, Any]] = served.state()["spans"]
        return {span["name"]: span for span in found}

    def check(self, worker: str) -> None:
        served = self.serve(worker)
        client = served.connect("/orders/events")
        wait_until(lambda: "open stream" in self.spans(served), message="the span of the opening")
        self.publish(served)
        self.assertIn("tea", client.next_event().data)
        wait_until(lambda: "publish" in self.spans(served), message="the span of the publish")
        spans = self.spans(served)
        opening, publish = spans["open stream"], spans["publish"]
        self.assertEqual(
            opening["attributes"], {"sse_threaded.resumes": False, "sse_threaded.channels": ["orders"]}
        )
        self.assertEqual(publish["kind"], "PRODUCER")
        self.assertEqual(publish["attributes"]["messaging.destination.name"], "orders")
        self.assertEqual({opening["status"], publish["status"]}, {"UNSET"})
        # While the stream is open, its spans have ended, and that of its request, too.
        by_id: dict[int, dict[str, Any]] = {}

        def has_parent() -> bool:
            by_id.update((span["id"], span) for span in self.spans(served).values())
            return publish["parent"] in by_id

        wait_until(has_parent, message="the span of the request that has published")
        self.assertEqual(by_id[publish["parent"]]["kind"], "SERVER")
        if self.has_request_span:
            self.assertEqual(by_id[opening["parent"]]["kind"], "SERVER")
        else:
            self.assertIsNone(opening["parent"])
        client.close()
        served.wait_for_streams(0)
        again = self.spans(served)
        self.assertEqual(again["open stream"], opening)
        if worker == "ThreadWorker":
            self.assertNotIn("WrappedSubscriber", served.whole_state()["objects"])


class FlaskSpansTest(SpansCase):
    sign = FLASK
    after = "FlaskInstrumentor().instrument_app(app)\n"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class DjangoSpansTest(SpansCase):
    sign = DJANGO
    after = "DjangoInstrumentor().instrument()\napp.load_middleware()\n"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class BesideSpansTest(SpansCase):
    """The middleware for WSGI, with the recipe of docs/frameworks.md: the opening is a trace of its own."""

    sign = "traced = OpenTelemetryMiddleware(flask_app)"
    has_request_span = False

    def example(self) -> str:
        route = '@flask_app.post("/orders")\ndef order() -> tuple[str, int]:\n'
        route += '    hub.publish("orders", {"item": request.form["item"]})\n    return "", 201\n\n\n'
        return super().example().replace("def app(", f"{route}def app(")

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")


class PageSpansTest(SpansCase):
    """The app of docs/tracing.md, as it stands there."""

    sign = ""

    def example(self) -> str:
        (found,) = [each.text for each in blocks() if each.path.name == "tracing.md"]
        return found

    def publish(self, served: Served) -> None:
        reply = request("POST", f"{served.url}/orders", json={"item": "tea"})
        self.assertEqual(reply.status, 201)

    def test_it_runs(self) -> None:
        self.check("ThreadWorker")


if __name__ == "__main__":
    unittest.main()
