"""gunicorn's gthread worker, with streams parked: an open page holds a connection, and no thread.

    gunicorn -k sse_threaded.worker.ThreadWorker --threads 8 --worker-connections 10000 app:app

gunicorn handles a request as it always does. If the answer is a stream of this package, the thread makes the head
and the first bytes. Then it gives the socket to the pump, and takes the next request. Where the app has wrapped
the stream, a thread goes on with the app's iterable whenever there is something, and then leaves again. When the
stream has ended, a thread writes the access line, calls ``post_request`` and gives the connection back to
gunicorn. The steps are described at :class:`~sse_threaded.fanout.handover.Handover`.

The worker is a chain of classes with one subject each; each overrides what its module lists of gunicorn's:

- :mod:`.pooled_worker`: its threads.
- :mod:`.connection_worker`: one connection at a time.
- :mod:`.accepting_worker`: new connections.
- :mod:`.worker_lifecycle`: its beginning and end.
- this one: ``handle_request``, which answers one request.

tests/unit/test_worker_points.py knows what all these look like in gunicorn.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.body import ChunkedReader

from ..fanout.handover import ENVIRON_KEY
from ..fanout.lifecycle import process_budget
from .app_response import AppResponse
from .capacity import stream_limit
from .client_connection import ClientConnection
from .permits import Permits
from .request_body import MalformedBody, RequestTooSlow, chunked_body
from .stream_handover import StreamHandover
from .worker_lifecycle import LifecycleWorker


class ThreadWorker(LifecycleWorker):
    """gunicorn's ThreadWorker that parks streams; its settings mean what gunicorn's manual says.

    ``threads`` bounds requests at work, ``worker_connections`` open connections, parked ones included.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._warned: set[str] = set()
        # How many wrapped streams may have a thread at the same time.
        self.permits = Permits(self._permit_limit, self.enqueue_soon, self.enqueue_next)

    def _permit_limit(self) -> int:
        # Those that keep their thread are as many less.
        return max(1, stream_limit(self.cfg.threads) - process_budget.taken)

    # Threads of the pool.

    def handle_request(self, req: Any, conn: ClientConnection) -> bool | Callable[[], None]:
        """Answer one request.

        Returns whether the connection may be used again; or a function, by which a stream leaves this thread.
        gunicorn's ``handle()`` returns this to ``_serve()``, which calls the function.
        """
        response = AppResponse(self, req, conn)
        leave = None
        try:
            self.cfg.pre_request(self, req)
            is_chunked = req.body is not None and isinstance(req.body.reader, ChunkedReader)
            body = chunked_body(req.body, conn.is_whole) if is_chunked else None
            response.resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
            handover = StreamHandover(response)
            response.environ = environ
            environ["wsgi.multithread"] = True
            environ[ENVIRON_KEY] = handover
            if body is not None:
                environ["wsgi.input"] = body
            response.respiter = self.wsgi(environ, response.start_response)
            leave = handover.send()
            return leave or not response.resp.should_close()
        except (MalformedBody, RequestTooSlow) as fault:  # the app let it through
            if not response.has_head:
                if isinstance(fault, MalformedBody):
                    raise fault.fault from None  # gunicorn answers it with 400
                with suppress(OSError):  # the client may have gone
                    util.write_error(conn.sock, 408, "Request Timeout", "")
            return False
        except OSError:
            raise
        except (Exception, SystemExit):
            if not response.has_head:
                raise
            # An error page would only corrupt the response.
            self.log.exception("Error handling request")
            return False
        finally:
            if leave is None:
                response.finish()

    def count_request(self, resp: Any, is_stream: bool) -> None:
        """See :class:`.app_response.ResponseWorker`.

        Streams do not count toward ``max_requests``. When a worker ends, its pages reconnect to the workers that
        are left. If they counted, those workers would end too, and so on without end.
        """
        if not is_stream:
            self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        # Connections with streams count here, too: none of them makes room for a new connection soon.
        no_room = len(self.keepalived_conns) + len(self._streaming) >= self.max_keepalived
        if not self.alive or not self.cfg.keepalive or no_room:
            resp.force_close()

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        """See :class:`.app_response.ResponseWorker`."""
        if kind not in self._warned:
            self._warned.add(kind)  # two threads at the same moment warn twice
            self.log.warning("%s", message())
