"""Spans of a hub, with OpenTelemetry's real SDK."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sse_threaded import Hub, InvalidEvent, LogUnavailable
from sse_threaded.log import MemoryLog
from sse_threaded.tracing import Tracing
from tests.support import enter
from tests.unit.test_observer import environ

ONCE = True  # the tracer is the same under every Python


class TracingTest(unittest.TestCase):
    def setUp(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.provider = provider
        self.tracer = provider.get_tracer("test")

    def make_hub(self, *, names_channels: bool = True, **arguments: Any) -> Hub:
        tracing = Tracing(self.provider, names_channels=names_channels)
        return enter(self, Hub(observers=[tracing], **arguments))

    def finished(self) -> list[Any]:
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans

    def test_a_publish_is_a_child_of_the_current_span_and_the_parent_of_others(self) -> None:
        hub = self.make_hub()
        inner: list[Any] = []
        append = MemoryLog.append

        def observed(*arguments: Any, **options: Any) -> str:
            with self.tracer.start_as_current_span("database") as span:
                inner.append(span)
                return append(*arguments, **options)

        with (
            mock.patch.object(MemoryLog, "append", observed),
            self.tracer.start_as_current_span("request") as outer,
        ):
            hub.publish("orders", 1)
            self.assertIs(trace.get_current_span(), outer)
        publish = next(span for span in self.finished() if span.name == "publish")
        self.assertEqual(publish.parent.span_id, outer.get_span_context().span_id)
        self.assertEqual(inner[0].parent.span_id, publish.context.span_id)
        self.assertEqual(publish.kind, SpanKind.PRODUCER)
        self.assertEqual(
            dict(publish.attributes),
            {
                "messaging.system": "sse_threaded",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": "orders",
            },
        )

    def test_a_publish_that_fails(self) -> None:
        hub = self.make_hub()
        with self.assertRaises(InvalidEvent):
            hub.publish("", 1)
        (span,) = self.finished()
        self.assertEqual(span.status.status_code, StatusCode.ERROR)
        self.assertEqual(span.attributes["error.type"], "InvalidEvent")
        self.assertEqual(span.events[0].name, "exception")
        self.assertEqual(context.get_current(), {})

    def test_an_opening_ends_before_its_stream(self) -> None:
        hub = self.make_hub()
        body = hub.stream(environ("lastEventId=abcdef-1"), ["b", "a"]).response
        (span,) = self.finished()
        self.assertEqual((span.name, span.kind), ("open stream", SpanKind.INTERNAL))
        attributes = {"sse_threaded.resumes": True, "sse_threaded.channels": ("a", "b")}
        self.assertEqual(dict(span.attributes), attributes)
        self.assertEqual(context.get_current(), {})
        next(body)
        body.close()
        self.assertEqual(self.finished(), [])

    def test_refusals(self) -> None:
        hub = self.make_hub(max_streams_per_user=1)
        body = hub.stream(environ(), "a", user=7).response
        next(body)
        self.finished()
        hub.stream(environ(), "a", user=7)
        (span,) = self.finished()
        self.assertEqual(span.attributes["sse_threaded.refused"], "user")
        self.assertEqual(span.status.status_code, StatusCode.UNSET)
        error = LogUnavailable("memory://", "broken")
        with mock.patch.object(MemoryLog, "newest", side_effect=error), self.assertLogs("sse_threaded"):
            hub.stream(environ(), "new", user=8)
        (span,) = self.finished()
        self.assertEqual(span.attributes["sse_threaded.refused"], "log")
        self.assertEqual(span.status.status_code, StatusCode.ERROR)
        body.close()

    def test_names_of_channels_may_stay_out(self) -> None:
        hub = self.make_hub(names_channels=False)
        hub.publish("user-7", 1)
        hub.stream(environ(), "user-7")
        for span in self.finished():
            self.assertNotIn("user-7", repr(dict(span.attributes)) + span.name)

    def test_a_batch_of_the_publisher(self) -> None:
        hub = self.make_hub()
        hub._observers.publish(("a", "b"), 3, lambda: None)
        (span,) = self.finished()
        self.assertEqual(span.attributes["messaging.batch.message_count"], 3)
        self.assertNotIn("messaging.destination.name", span.attributes)

    def test_without_a_provider_nothing_happens(self) -> None:
        hub = enter(self, Hub(observers=[Tracing()]))
        hub.publish("a", 1)
        self.assertEqual(self.finished(), [])


if __name__ == "__main__":
    unittest.main()
