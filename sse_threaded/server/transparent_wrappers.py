"""Which iterables around a stream leave its bytes alone, so that a server need not ask them for chunks.

An app may wrap a stream to change it: to filter, to redact, to end it early. A server that took the stream out of
such a wrapper would send what the app holds back. So a server looks into a wrapper only if the wrapper's class is
in a list. Subclasses are not in it, as they may behave differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# By the name of the class, as its package may not be installed: a function that gives the iterable inside, or
# None.
_INSIDE: dict[str, Callable[[Any], Any]] = {
    # Its _next is partial(next, iterator).
    "werkzeug.wsgi.ClosingIterator": lambda wrapper: wrapper._next.args[0] if wrapper._next.func is next else None,
    # A middleware may have replaced its _iterator. It sends the bytes unchanged, unless the app has given this one
    # response another function for that.
    "django.http.response.StreamingHttpResponse": lambda wrapper: (
        None if "make_bytes" in vars(wrapper) else wrapper._iterator
    ),
    # Sentry's sets its scope around each chunk, for errors of the app. A bare stream runs none of the app's code.
    "sentry_sdk.integrations.wsgi._ScopedResponse": lambda wrapper: wrapper._response,
    # This package's subclass of Django's closes Django's connections here, as no server will iterate it.
    "sse_threaded.django.streams.EventStreamResponse": lambda wrapper: wrapper.bare_iterator(),
}

# How many wrappers around each other are looked into; more would be a circle.
_DEPTH = 8


def passes_through(name: str, attribute: str) -> None:
    """Add a class of wrappers that give each chunk of the wrapped iterable, unchanged and in order, and add none.

    Call it once at import, before the first request. A wrong name or attribute raises nothing: then the stream is
    iterated on a thread. Never add a wrapper that changes chunks: clients would get the bytes that it removes.

    :param name: the class's full name, such as ``"shop.tracing.TimedIterable"``; this does not add its subclasses.
    :param attribute: the attribute of its instances that holds the iterable inside.
    """
    _INSIDE[name] = lambda wrapper: getattr(wrapper, attribute, None)


def bare_stream(iterable: object) -> EventStream | None:
    """The stream whose bytes this iterable gives unchanged; ``None`` where it is not known to do so."""
    for _ in range(_DEPTH):
        kind = type(iterable)  # not isinstance: a proxy may claim another class
        if kind is EventStream:
            return iterable  # type: ignore[return-value]  # it is one
        inside = _INSIDE.get(f"{kind.__module__}.{kind.__qualname__}")
        if inside is None:
            return None
        try:
            iterable = inside(iterable)
        except (AttributeError, IndexError):  # another release of that package
            return None
    return None


def joining(app: WSGIApplication) -> WSGIApplication:
    """The app, with bare streams told to join the events that wait into one chunk."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        iterable = app(environ, start_response)
        stream = bare_stream(iterable)
        if stream is not None:
            stream.joins = True
        return iterable

    return respond
