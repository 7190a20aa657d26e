"""One connection to an event stream: a GET request through requests, and the bytes of its answer as they come.

One thread opens and reads it; any thread may interrupt it. The request runs on an own thread until the head of the
answer has come, because nothing can interrupt a look-up of a name or the wait for a head.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import ssl
import threading
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import requests
import requests.exceptions
import urllib3.exceptions
from requests.auth import AuthBase

from ..protocol.address import shown
from .errors import StreamRefused
from .reconnection import retry_after_seconds
from .waiting import wait_for

# Bytes that one read returns at most.
READ_BYTES = 64 * 1024

_PERMANENT = (301, 308)

_STREAM = "text/event-stream"

# How http.client tells that a proxy has opened no tunnel to the server.
_TUNNEL = re.compile(r"Tunnel connection failed: (?P<status>\d{3}) ?(?P<phrase>.*)")

# An answer that says in a sentence why the server refuses (RFC 9457), and how much of it is read and shown.
_PROBLEM = "application/problem+json"
_PROBLEM_BYTES = 64 * 1024
_DETAIL_CHARACTERS = 300

# These faults do not pass by themselves. Another attempt would fail in the same way.
_LASTING = {
    requests.exceptions.InvalidSchema: "it is, or leads to, an address that is not http:// or https://",
    requests.exceptions.TooManyRedirects: "it redirects too often",
    requests.exceptions.InvalidHeader: "a header field has an invalid value",
    requests.exceptions.InvalidURL: "it is, or leads to, an invalid URL, or the URL of the proxy is invalid",
    requests.exceptions.MissingSchema: "it leads to an address without http:// or https://",
}


class Failure(Exception):
    """The connection has failed; another attempt may succeed.

    :ivar reason: the fault.
    :ivar retry_after: seconds that the server asks clients to wait; 0 if it does not say.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Silence(Failure):
    """No byte has come in time."""


class NoContent(Exception):
    """The answer was 204: the client must not connect again (WHATWG HTML 9.2.3)."""


class Interrupted(Exception):
    """Another thread has called ``interrupt``."""


class Settings(NamedTuple):
    """The settings that all connections of a client share.

    :ivar headers: header fields of each request.
    :ivar auth: an authentication object of requests, a pair of user name and password, or ``None``.
    :ivar connect_timeout: seconds until the connection exists.
    :ivar read_timeout: seconds without a byte after which the connection counts as dead; ``None`` for no limit.
    :ivar retry_statuses: an answer with one of them is a :class:`Failure`.
    """

    headers: Mapping[str, str]
    auth: AuthBase | tuple[str, str] | None
    connect_timeout: float
    read_timeout: float | None
    retry_statuses: Collection[int]


class Connection:
    """One request for a stream, and its answer.

    :param session: sends the request.
    :param url: where to.
    :param last_event_id: sent as ``Last-Event-ID`` unless it is empty.
    :param settings: all other details.
    """

    def __init__(self, session: requests.Session, url: str, last_event_id: str, settings: Settings) -> None:
        self._session = session
        self._url = url
        self._settings = settings
        # A browser sends these fields too. The stream is not to be compressed: a proxy or middleware that
        # compresses often holds events back.
        self._headers: dict[str, str | bytes] = {
            "Accept": _STREAM,
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",
            **settings.headers,
        }
        if last_event_id:
            # The bytes are UTF-8 (9.2.3). White space at the ends is not part of a field's value (RFC 9110 5.5).
            self._headers["Last-Event-ID"] = last_event_id.encode().strip()
        self._changed = threading.Condition()  # guards the attributes below; notified after each change
        self._response: requests.Response | None = None
        self._error: BaseException | None = None
        self._unwanted = False  # the connection was interrupted, or its head took too long

    def open(self) -> None:
        """Send the request, follow redirects, and wait for the head of an event stream.

        :raises Failure: it fails in a way that may pass.
        :raises StreamRefused: it fails in a way that does not pass.
        :raises NoContent: the server wants no further connection.
        :raises Interrupted: another thread has interrupted it.
        """
        with self._changed:
            if self._unwanted:
                raise Interrupted
        limit, settings = None, self._settings
        if settings.read_timeout is not None:
            limit = settings.connect_timeout + settings.read_timeout
        threading.Thread(target=self._request, name=f"EventSource {shown(self._url)}", daemon=True).start()
        with self._changed:
            has_ended = wait_for(
                self._changed,
                lambda: self._response is not None or self._error is not None or self._unwanted,
                limit,
            )
            if self._unwanted:
                raise Interrupted
            if not has_ended:
                self._unwanted = True
                raise Failure(f"no answer came in {limit:g} seconds")
            error, response = self._error, self._response
        if response is None:
            assert error is not None
            raise self._explained(error)
        self._check(response)

    def read(self) -> bytes:
        """Return the next bytes as soon as they come; ``b""`` at the end of the answer.

        :raises Failure: the connection breaks, or no byte comes in time.
        """
        assert self._response is not None
        try:
            data: bytes = self._response.raw.read1(READ_BYTES, decode_content=True)
        except urllib3.exceptions.ReadTimeoutError:
            raise Silence(f"no byte came in {self._settings.read_timeout:g} seconds") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Failure(f"the connection was cut ({_cause(error)})") from None
        return data

    def interrupt(self) -> None:
        """End a blocked ``open`` or ``read`` of another thread."""
        with self._changed:
            self._unwanted = True
            self._changed.notify_all()
            response = self._response
        if response is not None:
            # The errors mean that the answer has ended or is closed.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                response.raw.shutdown()

    def close(self) -> None:
        """Close the connection; may be called twice. Only the thread that reads calls it."""
        with self._changed:
            self._unwanted = True
            response = self._response
        if response is not None:
            response.close()

    def lasting_url(self) -> str:
        """Return the URL for the next connection: the target of permanent redirects (RFC 9110 15.4.2, 15.4.9).

        A temporary redirect is not remembered, nor is any after it. A redirect to which requests does not send the
        credentials is not remembered either. Otherwise the next connection would send them there.
        """
        assert self._response is not None
        url = self._url
        chain = [*self._response.history, self._response]
        for redirect, target in itertools.pairwise(chain):
            next_url = target.url
            if redirect.status_code not in _PERMANENT or self._session.should_strip_auth(self._url, next_url):
                break
            url = next_url
        return url

    def _request(self) -> None:
        # On the thread of this request.
        response = error = None
        settings = self._settings
        try:
            response = self._session.get(
                self._url,
                headers=self._headers,
                auth=settings.auth,
                timeout=(settings.connect_timeout, settings.read_timeout),
                stream=True,
                hooks={"response": [_without_body, *_hooks_of(self._session)]},
            )
        except BaseException as caught:  # the thread that opens raises it
            error = caught
        with self._changed:
            if not self._unwanted:
                self._response, self._error = response, error
                response = None
            self._changed.notify_all()
        if response is not None:
            response.close()

    def _check(self, response: requests.Response) -> None:
        """Raise unless the answer is an event stream (WHATWG HTML 9.2.3)."""
        status, content_type = response.status_code, response.headers.get("Content-Type")
        if status == 204:
            raise NoContent
        if status in self._settings.retry_statuses:
            wait = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(timezone.utc))
            raise Failure(f"the answer was {status} {response.reason}".rstrip(), wait)
        kind = (content_type or "").partition(";")[0].strip().lower()
        if status == 200 and kind == _STREAM:
            return
        if status == 200 and self._is_cut(response):
            raise Failure("the answer ended in its head")
        if status != 200:
            reason = f"the answer was {status} {response.reason}".rstrip()
            reason += self._detail() if kind == _PROBLEM else _ADVICE.get(status, "")
        else:
            reason = f"the answer is {content_type or 'without a content type'}, and not {_STREAM}"
            if response.history:
                reason += f"; a redirect led to {shown(response.url)}, which may be a login page"
        raise StreamRefused(shown(self._url), reason, status, content_type)

    def _detail(self) -> str:
        """Return what a problem document says in its member ``detail``, or the empty text."""
        body = b""
        try:
            while len(body) < _PROBLEM_BYTES and (data := self.read()):
                body += data
            text = " ".join(json.loads(body)["detail"].split())
        except (Failure, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return ""
        return f": {text[:_DETAIL_CHARACTERS]}" if text and text.isprintable() else ""

    def _is_cut(self, response: requests.Response) -> bool:
        """Whether a server that ended may have sent half a head, so that the content type is missing or cut.

        http.client does not tell half a head from a whole one. So a 200 with another content type is final only if
        a body follows, or if the body is complete and empty.
        """
        if response.headers.get("Content-Length", "").strip() == "0":
            return False
        try:
            return not self.read() and not response.raw.chunked  # a chunked body has an end of its own
        except Failure as failure:
            return not isinstance(failure, Silence)

    def _explained(self, error: BaseException) -> BaseException:
        url = shown(self._url)
        if isinstance(error, requests.exceptions.SSLError) and _is_about_certificate(error):
            return StreamRefused(
                url, f"the certificate is not valid ({_cause(error)}); set session.verify to the file of your CA"
            )
        for kind, reason in _LASTING.items():
            if isinstance(error, kind):
                return StreamRefused(url, reason)
        if tunnel := _TUNNEL.match(str(_causes(error)[-1])):
            return self._refused_by_proxy(tunnel["status"], tunnel["phrase"])
        if isinstance(error, requests.exceptions.Timeout):
            return Failure("no answer came in time")
        if isinstance(error, (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)):
            return Failure(f"no connection ({_cause(error)})")
        return error  # of an authentication object, or a fault in this package

    def _refused_by_proxy(self, status: str, phrase: str) -> BaseException:
        reason = f"the proxy answered {status} {phrase}".rstrip()
        if int(status) in self._settings.retry_statuses:
            return Failure(reason)
        return StreamRefused(shown(self._url), reason + (_ADVICE[407] if status == "407" else ""))


_ADVICE = {
    401: "; give auth= or headers= that the server accepts",
    403: "; this client may not read the stream",
    404: "; no such stream exists",
    407: "; give the URL of the proxy with a user name and a password",
}


def _without_body(response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
    # requests would read the whole body of a redirect, however long it is.
    if response.is_redirect:
        response.raw.close()


def _hooks_of(session: requests.Session) -> list[Any]:
    # requests does not call the session's hooks if the request has some.
    hooks: Any = session.hooks.get("response") or []
    return [hooks] if callable(hooks) else list(hooks)


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (inner := found[-1].__cause__ or found[-1].__context__) is not None and inner not in found:
        found.append(inner)
    return found


def _cause(error: BaseException) -> str:
    # The innermost error says the most. The texts of the outer ones hold the URL with its query.
    inner = _causes(error)[-1]
    if isinstance(inner, requests.exceptions.RequestException):
        return type(inner).__name__
    return f"{type(inner).__name__}: {inner}"


def _is_about_certificate(error: BaseException) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(error))
