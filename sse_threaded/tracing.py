"""Spans of OpenTelemetry for a hub; needs the extra ``otel``.

    hub = Hub(Path(__file__).with_name("events.db"), observers=[Tracing()])

There are two kinds of spans. ``publish`` lasts for the time of the call. ``open stream`` lasts until
:meth:`sse_threaded.Hub.stream` returns, and not until the stream ends. Both are children of the span that is
current in the thread. Spans that the app's database driver makes in between are children of these.

No trace id goes to clients or into the log.
"""

from __future__ import annotations

from contextvars import Token
from typing import NamedTuple

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from .observer import Cause, Observer, Publication

__all__ = ["Tracing"]

# Causes that an operator must look at.
_FAULTS = {Cause.LOG, Cause.SYSTEM}


class _Begun(NamedTuple):
    """A span that is current until its end."""

    span: Span
    token: Token[Context]


class Tracing(Observer):
    """Makes the spans of one hub or several, for ``Hub(observers=[...])``.

    :param tracer_provider: where the spans go; default ``None``: the global provider, also if it is set later.
    :param names_channels: whether the spans have the names of channels; default ``True``. A channel such as
        ``user-7`` may say who somebody is.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, names_channels: bool = True) -> None:
        self._tracer = trace.get_tracer("sse_threaded", tracer_provider=tracer_provider)
        self._names_channels = names_channels

    def publishing(self, channels: tuple[str, ...], events: int) -> object:
        """See :class:`Observer`. The attributes are those of OpenTelemetry's conventions for messaging."""
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "sse_threaded",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
        }
        if events != 1:
            attributes["messaging.batch.message_count"] = events
        if self._names_channels and len(channels) == 1:
            attributes["messaging.destination.name"] = channels[0]
        return self._begin("publish", SpanKind.PRODUCER, attributes)

    def published(self, begun: object, publication: Publication) -> None:
        """See :class:`Observer`."""
        if not isinstance(begun, _Begun):
            return
        error = publication.error
        if error is not None:
            begun.span.record_exception(error)
            begun.span.set_attribute("error.type", type(error).__name__)
            begun.span.set_status(StatusCode.ERROR, str(error))
        _end(begun)

    def opening(self, channels: tuple[str, ...], resumes: bool) -> object:
        """See :class:`Observer`."""
        attributes: dict[str, AttributeValue] = {"sse_threaded.resumes": resumes}
        if self._names_channels:
            attributes["sse_threaded.channels"] = channels
        return self._begin("open stream", SpanKind.INTERNAL, attributes)

    def opening_ended(self, begun: object, cause: Cause | None) -> None:
        """See :class:`Observer`."""
        if not isinstance(begun, _Begun):
            return
        if cause is not None:
            begun.span.set_attribute("sse_threaded.refused", str(cause))
            if cause in _FAULTS:
                begun.span.set_status(StatusCode.ERROR, f"no stream: {cause}")
        _end(begun)

    def _begin(self, name: str, kind: SpanKind, attributes: dict[str, AttributeValue]) -> _Begun:
        span = self._tracer.start_span(name, kind=kind, attributes=attributes)
        current: Context = trace.set_span_in_context(span)
        return _Begun(span, context.attach(current))


def _end(begun: _Begun) -> None:
    context.detach(begun.token)
    begun.span.end()
