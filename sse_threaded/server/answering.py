"""A request on its thread: it is read, the app is called, and the response is sent.

A stream leaves the thread (:mod:`.exchange`). All other responses end here.
"""

from __future__ import annotations

import contextvars
import errno
import logging
import os
import ssl
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from gunicorn import SERVER_SOFTWARE, util
from gunicorn.config import PreRequest
from gunicorn.http import wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import NoMoreData, ParseException

from ..fanout.handover import ENVIRON_KEY
from . import deadlines, tls, versions
from .connection import ClientTooSlow, Connection
from .exchange import Exchange, ExchangeWorker
from .loop import Loop
from .paced_unreader import PacedUnreader
from .request import ErrorStream, RequestReader
from .request_body import DRAIN_BYTES, MalformedBody, RequestTooSlow, chunked_body, unread_bytes
from .response import Response

_CLIENT_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


class Answering:
    """Answers the requests of one worker.

    :param worker: has the app and the settings.
    :param loop: has the connections.
    """

    def __init__(self, worker: ExchangeWorker, loop: Loop) -> None:
        self._worker = worker
        self._cfg = worker.cfg
        self._log = worker.log
        self._loop = loop
        self._reader = RequestReader(worker.cfg)
        # gunicorn's own hook writes a line for debugging; the app's may change the request.
        has_hook = worker.cfg.pre_request is not PreRequest.default
        self._calls_pre_request = has_hook or worker.log.error_log.isEnabledFor(logging.DEBUG)
        self._reads_plain = loop.reads and not has_hook and not os.environ.get("SCRIPT_NAME")
        self._has_chunks = not versions.speaks_uwsgi(worker.cfg)
        self._environ = {
            "wsgi.errors": ErrorStream(worker.cfg),
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": worker.cfg.workers > 1,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": wsgi.FileWrapper,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": SERVER_SOFTWARE,
            "SCRIPT_NAME": "",
        }

    def serve(self, conn: Connection) -> None:
        """Answer the request of a connection that has begun to arrive."""
        conn.requests += 1
        # A parked stream's iterable has not ended. The variables that it has set must not reach the thread's next
        # request, and the thread that closes it needs them.
        conn.context = contextvars.copy_context()
        leave: Callable[[], None] | None = None
        again = False
        try:
            result = conn.context.run(self._answer, conn)
            if callable(result):
                leave = result
            else:
                again = result
        except BaseException as error:  # such as sys.exit() in a view
            self._worker.fail(error)
        if conn.upload_ended is not None:
            conn.end_upload()
        if leave is None:
            self.give_back(conn, again)
        else:
            self._worker.begin_stream(conn)
            leave()

    def give_back(self, conn: Connection, again: bool) -> None:
        """Wait for a connection's next request, or close it.

        :param again: whether the connection may be used again.
        """
        if not again:
            self._loop.linger(conn)
            return
        unread = b"" if conn.parser is None else conn.parser.unreader.take_unread()
        if self._cfg.is_ssl and conn.sock.pending():  # bytes that do not make the socket readable
            unread += conn.sock.recv(conn.sock.pending())
        if unread:  # the client sent its next request, or a part of it, before it had the response
            self._loop.add(conn, unread)
        else:
            self._loop.keep(conn)

    def _answer(self, conn: Connection) -> bool | Callable[[], None]:
        req = None
        try:
            plain = self._reader.read(conn, self._environ) if self._reads_plain and conn.is_whole else None
            if plain is not None:
                req, environ = plain
                conn.received = b""
                self._complete(environ, conn, req)
                return self._respond(conn, req, environ)
            req = self._parse(conn)
            if not req:
                return False
            return self._respond(conn, req, None)
        except (NoMoreData, StopIteration) as error:
            self._log.debug("The client has closed the connection: %s", error)
        except OSError as error:
            self._on_socket_error(conn, req, error)
        except Exception as error:
            self._worker.handle_error(req, conn.sock, conn.client, error)
        return False

    def _on_socket_error(self, conn: Connection, req: Any, error: OSError) -> None:
        if isinstance(error, ssl.SSLError) and error.args[0] != ssl.SSL_ERROR_EOF:
            self._worker.handle_error(req, conn.sock, conn.client, error)
        elif isinstance(error, (ssl.SSLError, ClientTooSlow)) or error.errno in _CLIENT_GONE:
            self._log.debug("The client has gone: %s", error)
        else:
            self._log.exception("Socket error processing request.")

    # A request that is not plain.

    def _parse(self, conn: Connection) -> Any:
        if conn.parser is None:
            if self._cfg.is_ssl:
                self._begin_tls(conn)
            conn.parser = versions.new_parser(self._cfg, conn.sock, conn.client)
            conn.parser.req_count = conn.requests - 1  # only the first may come with a PROXY line
            conn.parser.unreader = PacedUnreader(conn.sock)
        unreader = conn.parser.unreader
        unreader.begin_next(conn.is_whole)
        unreader.buf.write(conn.received)
        conn.received = b""
        if conn.upload_ended is not None:
            unreader.expect(conn.missing, conn.end_upload)
        req = next(conn.parser)
        if req.proxy_protocol_info is None:
            req.proxy_protocol_info = conn.proxied  # it comes once, for all requests of the connection
        elif req.proxy_protocol_info["client_addr"]:
            conn.proxied = req.proxy_protocol_info
        return req

    def _begin_tls(self, conn: Connection) -> None:
        self._loop.begin_handshake(conn)
        try:
            conn.sock = tls.wrap(conn.sock, self._cfg)
            conn.sock.do_handshake()
        finally:
            self._loop.end_handshake(conn)

    def _drain(self, conn: Connection, req: Any) -> bool:
        """Read the part of a body that the app did not read; returns whether the connection may be used again."""
        if versions.has_failed(req.body) or conn.parser.unreader.has_failed:
            return False
        left = DRAIN_BYTES
        until = time.monotonic() + deadlines.DRAIN_SECONDS
        # If it is malformed, or does not come, no answer is needed.
        with suppress(ParseException, NoMoreData, OSError):
            while left >= 0 and time.monotonic() < until:
                conn.sock.settimeout(deadlines.DRAIN_SECONDS)
                try:
                    data = req.body.read(1024)
                finally:
                    conn.sock.settimeout(None)  # else the next use of the socket would wait as long
                if not data:
                    return True
                left -= len(data)
        return False

    # The app.

    def _respond(self, conn: Connection, req: Any, environ: dict[str, Any] | None) -> bool | Callable[[], None]:
        """Call the app and send its response.

        Returns whether the connection may be used again; or a function, by which a stream leaves this thread.

        :param environ: of a plain request; ``None`` for others.
        """
        worker = self._worker
        exchange = Exchange(worker, req, conn)
        is_plain = environ is not None
        leave = None
        try:
            if self._calls_pre_request:
                self._cfg.pre_request(worker, req)
            if environ is None:
                environ = self._make_environ(conn, req)
            exchange.environ = environ
            exchange.resp = resp = Response(req, conn, self._cfg, self._has_chunks)
            if versions.HAS_EARLY_HINTS:
                environ["wsgi.early_hints"] = resp.early_hints
            environ[ENVIRON_KEY] = exchange
            exchange.respiter = worker.wsgi(environ, exchange.start_response)
            if not is_plain and unread_bytes(req.body) > DRAIN_BYTES:
                # The connection will close, and a proxy that expects the opposite could lose its next request.
                resp.force_close()
            leave = exchange.send()
            return leave or (not resp.should_close() and (is_plain or self._drain(conn, req)))
        except (MalformedBody, RequestTooSlow) as fault:  # the app let it through
            if not exchange.has_head:
                _refuse(conn, fault)
            return False
        except OSError:
            raise
        except (Exception, SystemExit):
            if not exchange.has_head:
                raise
            # An error page would only corrupt the response.
            self._log.exception("Error handling request")
            return False
        finally:
            if leave is None:
                exchange.finish()

    def _make_environ(self, conn: Connection, req: Any) -> dict[str, Any]:
        """gunicorn's environ for a request that is not plain."""
        body = None
        if isinstance(getattr(req.body, "reader", None), ChunkedReader):
            body = chunked_body(req.body, conn.is_whole)
        with conn.bounded() if any(name == "EXPECT" for name, _ in req.headers) else nullcontext():
            # With Expect gunicorn sends "100 Continue" here, and would wait for a client that does not read.
            environ: dict[str, Any] = wsgi.create(req, conn.sock, conn.client, conn.server, self._cfg)[1]
        environ["wsgi.multithread"] = True
        if body is not None:
            environ["wsgi.input"] = body
        return environ

    def _complete(self, environ: dict[str, Any], conn: Connection, req: Any) -> None:
        """Add what does not come from the request."""
        client, server = conn.client, conn.server
        environ["gunicorn.socket"] = conn.sock
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        else:
            environ["REMOTE_ADDR"] = client.decode() if isinstance(client, bytes) else client
        if isinstance(server, str):
            name, port = _named_server(server, environ.get("HTTP_HOST"), req.scheme)
        else:
            name, port = server[0], server[1]
        environ["SERVER_NAME"] = name
        environ["SERVER_PORT"] = str(port)
        if conn.proxied is not None:
            req.proxy_protocol_info = conn.proxied
            environ.update(wsgi.proxy_environ(req))


def _refuse(conn: Connection, fault: MalformedBody | RequestTooSlow) -> None:
    if isinstance(fault, MalformedBody):
        raise fault.fault from None  # gunicorn answers it with 400
    with suppress(OSError):  # the client may have gone
        util.write_error(conn.sock, 408, "Request Timeout", "")


def _named_server(server: str, host: str | None, scheme: str) -> tuple[str, int | str]:
    """The name and port of a Unix socket: the request's own, as it has none."""
    parts = server.split(":")
    if len(parts) == 1:
        if not host:
            return server, ""
        parts = host.split(":")
        if len(parts) == 1:
            return host, {"http": 80, "https": 443}.get(scheme, "")
    return parts[0], parts[1]
