"""One request and the app's response to it: from the app's call to the access line and gunicorn's last hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .connection import Connection
from .permits import Permits

_NO_CHUNKS: Iterator[bytes] = iter(())


class ResponseWorker(Protocol):
    """The worker, for a response that it gives.

    :ivar tells_ends: whether an access log or a hook needs the end of each request.
    :ivar permits: which wrapped streams may have a thread.
    """

    cfg: Any
    log: Any
    wsgi: Any
    tells_ends: bool
    permits: Permits

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``; any thread. This does not wait."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn's: answer a request with an error page."""

    def count_request(self, resp: Any, is_stream: bool) -> None:
        """Count a request whose response begins, and say in that response whether the connection will close."""

    def fail(self, error: BaseException) -> None:
        """Have the main thread raise an exception that ends the worker."""

    def give_back(self, conn: Connection, again: bool) -> None:
        """Wait for the connection's next request, or close it."""

    def begin_stream(self, conn: Connection) -> None:
        """Note that a stream has a connection, until :meth:`give_back`."""

    def park(self, conn: Connection) -> None:
        """Watch a connection that the pump has, unless its stream has ended already."""

    def unpark(self, conn: Connection) -> None:
        """The pump has given a connection back."""

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """Log a warning, unless one of its kind was logged in this worker."""


@dataclass(eq=False, repr=False, slots=True)
class AppResponse:
    """One request, and the app's response to it. One thread at a time has it.

    :param worker: gives the response.
    :param req: gunicorn's request.
    :param conn: the connection on which it came.

    :ivar chunks: the iterator of the app's response.
    :ivar environ: the WSGI environ.
    :ivar has_ended: the app's iterable has given its last chunk.
    :ivar may_reuse: whether the connection may be used again after a stream.
    :ivar resp: gunicorn's response, which frames and sends; ``None`` before it is made.
    :ivar respiter: the iterable that the app returned.
    """

    worker: ResponseWorker
    req: Any
    conn: Connection
    has_ended: bool = False
    may_reuse: bool = False
    environ: Any = None
    resp: Any = None
    respiter: Any = None
    chunks: Iterator[bytes] = _NO_CHUNKS
    _is_counted: bool = False
    _start: datetime | None = None

    def __post_init__(self) -> None:
        if self.worker.tells_ends:
            self._start = datetime.now()  # noqa: DTZ005  # gunicorn's access log takes the difference

    @property
    def has_head(self) -> bool:
        """Whether the response's head was sent."""
        return self.resp is not None and self.resp.headers_sent

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333's, for the app. It counts the request once."""
        write = self.resp.start_response(status, headers, exc_info)
        if not self._is_counted:
            self._is_counted = True
            self.worker.count_request(self.resp, is_stream=self.resp.is_stream)
        return write

    def expect_stream(self) -> None:
        """Decide what becomes of the connection after a stream; before the response's head is made."""
        for name, _ in self.req.headers:
            if name in ("CONTENT-LENGTH", "TRANSFER-ENCODING"):
                # No thread will read that body, so the place where a next request would begin is unknown.
                self.resp.force_close()
        self.may_reuse = not self.resp.should_close()

    def conclude(self) -> None:
        """Write the access line, then close the app's iterable: gunicorn's order."""
        try:
            if self.resp is not None and self._start is not None:
                elapsed = datetime.now() - self._start  # noqa: DTZ005
                self.worker.log.access(self.resp, self.req, self.environ, elapsed)
        finally:
            try:
                if hasattr(self.respiter, "close"):
                    self.respiter.close()
            finally:
                # Others may hold this object for longer. They must not keep the app's iterable.
                self.chunks = _NO_CHUNKS
                self.respiter = None

    def finish(self) -> None:
        """Call gunicorn's hook ``post_request``. This is the last use of the object."""
        if not self._is_counted and self.resp is not None:  # the app failed before its response began
            self._is_counted = True
            self.worker.count_request(self.resp, is_stream=False)
        if self.worker.tells_ends:
            try:
                self.worker.cfg.post_request(self.worker, self.req, self.environ or {}, self.resp)
            except Exception:
                self.worker.log.exception("Exception in post_request hook")
        # The environ holds the Handover, which holds this object; and a timer may hold that until it is over.
        self.environ = self.req = self.resp = None
