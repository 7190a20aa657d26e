"""The board, with paths for visitors of every kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from werkzeug.wrappers import Request, Response

from sse_threaded.board.app import create_app

from .visitors import BIG

_SECONDS = 0.001  # the unit of the numbers in paths

_board = create_app()


class _Counted:
    """Wraps a stream, as a tracer does: it passes on all chunks, also the empty ones."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._inner = chunks
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.count += 1
        return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request."""
    path: str = environ["PATH_INFO"]
    if path.startswith("/wrapped/"):
        environ["PATH_INFO"] = path.removeprefix("/wrapped")
        return _Counted(_board(environ, start_response))
    if not path.startswith("/soak/"):
        return _board(environ, start_response)
    name, _, number = path.removeprefix("/soak/").partition("/")
    if name == "sleep":
        time.sleep(int(number) * _SECONDS)
        body = b"slept"
    elif name == "compute":
        until = time.thread_time() + int(number) * _SECONDS
        while time.thread_time() < until:
            pass
        body = b"computed"
    elif name == "big":
        body = BIG * int(number)
    elif name == "echo":
        body = Request(environ).get_data()
    else:
        body = b"ok"
    return Response(body)(environ, start_response)
