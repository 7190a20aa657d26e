"""A request's body, and the errors of reading it that are the client's fault.

Each of these errors is an answer that Werkzeug and Flask give by themselves. Each is an ``OSError``, too, by
which other frameworks know that a body cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn.http.errors import NoMoreData
from werkzeug.exceptions import BadRequest, RequestTimeout

from . import versions

# Bytes of a body that the app did not read, which a thread reads before the connection is used again.
DRAIN_BYTES = 64 * 1024


class MalformedBody(BadRequest, OSError):
    """The chunks do not follow RFC 9112, section 7.1.

    :ivar fault: gunicorn's own error, which it answers with 400.
    """

    def __init__(self, fault: Exception) -> None:
        super().__init__("The request's body is malformed: it does not follow the chunked transfer coding.")
        self.fault = fault


class RequestTooSlow(RequestTimeout, NoMoreData):  # type: ignore[misc]  # gunicorn has no annotations
    """The client does not send the rest of its request; see :mod:`.deadlines`."""

    def __init__(self) -> None:
        super().__init__("The request did not arrive in time.")


class ChunkedBody:
    """A chunked body as ``wsgi.input``, which fails with :class:`MalformedBody`.

    :param body: gunicorn's.
    """

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        """As PEP 3333 says; likewise the others."""
        return self._do(self._body.read, size)  # type: ignore[no-any-return]

    def readline(self, size: int | None = None) -> bytes:
        """One line."""
        return self._do(self._body.readline, size)  # type: ignore[no-any-return]

    def readlines(self, hint: int | None = None) -> list[bytes]:
        """All lines that are left."""
        return self._do(self._body.readlines, hint)  # type: ignore[no-any-return]

    def __iter__(self) -> ChunkedBody:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _do(self, method: Any, size: int | None) -> Any:
        try:
            return method(size)
        except Exception as error:
            versions.close_after(self._body)
            if isinstance(error, versions.MALFORMED):
                raise MalformedBody(versions.answered(error)) from error
            raise


def chunked_body(body: Any, is_whole: bool) -> ChunkedBody:
    """A chunked body for the app.

    :param body: gunicorn's.
    :param is_whole: whether all of it has arrived. Then it is read now, so that a malformed body is refused before
        any app is called.
    :raises ParseException: it is malformed.
    """
    if is_whole:
        try:
            data = body.read()
        except versions.MALFORMED as fault:
            raise versions.answered(fault) from None
        body.buf.write(data)  # from which it reads first
    return ChunkedBody(body)


def checked(wsgi: Callable[..., Any]) -> Callable[..., Any]:
    """An app under gunicorn's own worker, for which reading a malformed body fails with :class:`MalformedBody`."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if "HTTP_TRANSFER_ENCODING" not in environ:
            return wsgi(environ, start_response)
        environ["wsgi.input"] = ChunkedBody(environ["wsgi.input"])
        try:
            return wsgi(environ, start_response)
        except MalformedBody as error:
            raise error.fault from None  # which gunicorn answers with 400

    return app


def unread_bytes(body: Any) -> int:
    """How many bytes of gunicorn's body are not read yet; 0 where that is not known."""
    return int(getattr(getattr(body, "reader", None), "length", 0))
