"""Every way in which an app wraps a stream, as one WSGI app: ``/<wrapper>?hub=<kind>&channel=<name>&channel=...``.

Also ``/streams`` (how many are open, as JSON), ``/ping``, and ``/told`` (what wrappers have said).
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import queue
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from sse_threaded import Hub

URL = os.environ.get("WRAPPERS_URL", "memory://")

# How a hub is made, by the word in the query. "few" and "short" have one for each wrapper, so that its streams can
# be counted.
KINDS: dict[str, dict[str, Any]] = {
    "quiet": {"heartbeat": 600},
    "beating": {"heartbeat": 0.2},
    "few": {"heartbeat": 0.2, "max_streams": 2},
    "short": {"heartbeat": 0.2, "lease": 0.5},
    "many": {"heartbeat": 600, "max_streams": 100},
}

_hubs: dict[tuple[str, str], Hub] = {}
_lock = threading.Lock()
_told: list[str] = []
_go = threading.Event()  # lets those go on that are stuck


def hub_of(wrapper: str, kind: str) -> Hub:
    key = (kind, wrapper if kind in ("few", "short") else "")
    with _lock:
        if key not in _hubs:
            _hubs[key] = Hub(URL, **KINDS[kind])
        return _hubs[key]


def stream(environ: dict[str, Any], channel: str = "") -> Response:
    """The stream that the request asks for, before anybody wraps it; or of another channel."""
    query = parse_qs(environ["QUERY_STRING"])
    wrapper = environ["sse_tests.wrapper"]
    return hub_of(wrapper, query.get("hub", ["quiet"])[0]).stream(environ, channel or query["channel"])


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")


# --- around the iterable --------------------------------------------------------------------------------------


def for_admin(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return (chunk for chunk in chunks if b"for:admin" not in chunk)


def redacting(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return (chunk.replace(b"secret", b"******") for chunk in chunks)


def until_done(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if b"[DONE]" in chunk:
            return


def yielding_from(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from chunks


def plain_for(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:  # noqa: UP028  # not the same when it is closed
        yield chunk


class WithClose:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks
        self.iterator = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.iterator)

    def close(self) -> None:
        say("CLOSED with_close")
        self.chunks.close()  # type: ignore[attr-defined]


class InACircle:
    """No code closes the stream, and only the garbage collector finds it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.iterator = iter(chunks)
        self.me = self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.iterator)


def chained(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return itertools.chain([b": before\n"], chunks, [b": after\n"])


def mapped(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return map(bytes, chunks)


def positive(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return (chunk for chunk in chunks if b"for:" in chunk)


def not_empty(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return (chunk for chunk in chunks if chunk)


def raising(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if b"[DONE]" in chunk:
            raise RuntimeError("the wrapper fails on purpose")


def closing_at_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """It closes the stream as PEP 3333 says, but before the server has ended the response."""
    try:
        yield from chunks
    finally:
        chunks.close()  # type: ignore[attr-defined]


def two_for_one(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        half = len(chunk) // 2
        yield chunk[:half]
        yield chunk[half:]


def one_for_two(chunks: Iterable[bytes]) -> Iterator[bytes]:
    kept: list[bytes] = []
    for chunk in chunks:
        kept.append(chunk)
        if len(kept) == 2:
            yield b"".join(kept)
            kept.clear()
    yield b"".join(kept)


def looking_ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    ahead = b""
    for chunk in chunks:
        yield ahead
        ahead = chunk
    yield ahead


def padding(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk + b":\n"


def slow(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if chunk:
            _told.append("slow")
            time.sleep(0.005)


def stuck(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if b"WAIT" in chunk:
            _told.append("stuck")
            _go.wait(60)
        yield chunk


def trailing(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from chunks
    _told.append("trailing")
    yield b":" + b"x" * 4_000_000 + b"\n"


class Prefetching:
    """A thread of the app's own iterates the stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks
        self.queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self.fetch, daemon=True).start()

    def fetch(self) -> None:
        for chunk in self.chunks:
            if chunk:
                self.queue.put(chunk)
        self.queue.put(b"")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.queue.get, b"")

    def close(self) -> None:
        self.chunks.close()  # type: ignore[attr-defined]


def peeking(chunks: Iterable[bytes]) -> Iterable[bytes]:
    iterator = iter(chunks)
    return itertools.chain([next(iterator)], iterator)


def closing(chunks: Iterable[bytes]) -> Iterable[bytes]:
    return ClosingIterator(chunks, [lambda: say("CLOSED closing")])


ITERABLES: dict[str, Callable[[Iterable[bytes]], Iterable[bytes]]] = {
    "bare": lambda chunks: chunks,
    "for_admin": for_admin,
    "redacting": redacting,
    "until_done": until_done,
    "yielding_from": yielding_from,
    "plain_for": plain_for,
    "with_close": WithClose,
    "in_a_circle": InACircle,
    "chained": chained,
    "mapped": mapped,
    "positive": positive,
    "not_empty": not_empty,
    "raising": raising,
    "closing_at_end": closing_at_end,
    "two_for_one": two_for_one,
    "one_for_two": one_for_two,
    "looking_ahead": looking_ahead,
    "padding": padding,
    "slow": slow,
    "peeking": peeking,
    "closing": closing,
    "stuck": stuck,
    "trailing": trailing,
    "prefetching": Prefetching,
}


def two_streams(environ: dict[str, Any], start_response: Any) -> Any:
    first, second = stream(environ), stream(environ, "second")
    return Response(itertools.chain(first.response, second.response), headers=first.headers)(
        environ, start_response
    )


def wrapping(wrap: Callable[[Iterable[bytes]], Iterable[bytes]]) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        response = stream(environ)
        return Response(wrap(response.response), headers=response.headers)(environ, start_response)

    return app


# --- around the app -------------------------------------------------------------------------------------------


def middleware(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    for chunk in stream(environ)({**environ}, start_response):
        yield chunk.replace(b"secret", b"******")


def encoding(environ: dict[str, Any], start_response: Any) -> Any:
    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        return start_response(status, [*headers, ("Content-Encoding", "gzip")], exc_info)

    def encoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
        coder = zlib.compressobj(wbits=31)
        for chunk in chunks:
            yield coder.compress(chunk) + coder.flush(zlib.Z_SYNC_FLUSH)
        yield coder.flush()

    return encoded(stream(environ)(environ, start))


# What frameworks.py has. It is imported for the first of these, as Django, Flask and Bottle take long to import.
OF_FRAMEWORKS = frozenset(
    (
        *("flask_after_request", "flask_with_context", "flask_positive", "flask_bare", "flask_proxied"),
        *("bottle", "django_bare", "django_replacing"),
    )
)

APPS: dict[str, Callable[..., Any]] = {
    **{name: wrapping(wrap) for name, wrap in ITERABLES.items()},
    "middleware": middleware,
    "two_streams": two_streams,
    "encoding": encoding,
}


def app(environ: dict[str, Any], start_response: Any) -> Any:
    name = environ["PATH_INFO"].strip("/")
    environ["sse_tests.wrapper"] = name
    if name in OF_FRAMEWORKS:
        return importlib.import_module("tests.live.wrappers.frameworks").APPS[name](environ, start_response)
    if name in APPS:
        return APPS[name](environ, start_response)
    if name == "streams":
        with _lock:
            body = json.dumps({f"{kind} {wrapper}": hub.streams for (kind, wrapper), hub in _hubs.items()})
    elif name == "told":
        body = "\n".join(_told)
    elif name == "go":
        _go.set()
        body = "gone"
    else:
        body = "pong"
    return Response(body)(environ, start_response)
