"""Werkzeug's threaded server with an app, on a free port, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# How often the accepting thread checks whether it must end; so ending takes up to this long.
_POLL_SECONDS = 0.02

# How long ending waits for requests whose connections were cut. A stream that waits for its next event notices
# the cut only when it writes, so ending must not depend on it.
_LINGER_SECONDS = 0.5


class _Connections:
    """The open connections. The server cuts them when it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both attributes
        self._open: set[socket.socket] = set()
        self._cut = False

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
            cut = self._cut
        if cut:
            self._shut_down(connection)

    def discard(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            connections = list(self._open)
        for connection in connections:
            self._shut_down(connection)

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    @staticmethod
    def _shut_down(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the peer may have closed it already
            connection.shutdown(socket.SHUT_RDWR)


def _handler_for(connections: _Connections) -> type[WSGIRequestHandler]:
    class Handler(WSGIRequestHandler):
        def setup(self) -> None:
            connections.add(self.request)
            super().setup()

        def finish(self) -> None:
            try:
                super().finish()
            except ConnectionError:  # flushing to a client that has closed its connection
                pass
            finally:
                connections.discard(self.request)

        def log_request(self, *args: Any, **kwargs: Any) -> None:
            """Print no access lines into the output of a test. Errors of the app are still printed."""

    return Handler


class LiveServer:
    """An app served by Werkzeug's threaded server on a free port; a context manager.

    ::

        with LiveServer(app) as server, EventStreamClient(server.url + "/events") as client:
            hub.publish("news", "hello")
            assert client.next_event().data == "hello"

    Leaving the ``with`` closes the port and cuts the open connections, streams too. It does not close the hub of
    the app.

    :param app: the WSGI application.
    :param host: the address to listen on; default ``"127.0.0.1"``.
    :ivar host: as given.
    :ivar port: the port; known inside the ``with``.
    """

    def __init__(self, app: WSGIApplication, *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self._app = app
        self._connections = _Connections()

    @property
    def url(self) -> str:
        """``http://host:port``, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many requests are in progress now, open streams included."""
        return len(self._connections)

    def __enter__(self) -> LiveServer:
        self._connections = _Connections()
        handler = _handler_for(self._connections)
        self._server = make_server(self.host, 0, self._app, threaded=True, request_handler=handler)
        self.port = self._server.port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _POLL_SECONDS},
            name=f"LiveServer {self.url}",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._connections.cut()
        deadline = time.monotonic() + _LINGER_SECONDS
        while len(self._connections) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
