"""The rules for the TLS handshake and for the head of the answer."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterator

from .finding import Finding, clean, span
from .observations import End, Head, Listening, Seen

# Part of the whole time of the certificate, and seconds. Automatic renewals run when a third of it is left. So
# with less than a sixth, and less than two weeks, one has failed.
_SOON_SHARE = 1 / 6
_SOON_SECONDS = 14 * 86_400

# Seconds by which two clocks may differ. Date has whole seconds, and the answer takes a while.
_CLOCK_SECONDS = 30.0

# Proxies, by their names in Server, that take X-Accel-Buffering out of the answer.
_NGINX = ("nginx", "openresty", "tengine", "angie", "freenginx", "cloudflare")

_TLS_FAULTS = {
    "certificate-expired": "The certificate is not valid at this time",
    "certificate-name": "The certificate has another name than the URL",
    "certificate-untrusted": "The certificate is not signed by a known authority",
    "tls": "The TLS handshake failed",
}

_REASONS = {
    401: "The check may not read the stream; give --header with a cookie or a token.",
    403: "The check may not read the stream; give --header with a cookie or a token.",
    404: "No stream has this path.",
    502: "The proxy does not reach the app.",
    503: "The proxy does not reach the app, or the app is overloaded.",
    504: "The app did not answer the proxy in time.",
}


def certificate(seen: Seen) -> Iterator[Finding]:
    """Judge the TLS handshake."""
    tls = seen.tls
    if tls is None:
        return
    if tls.fault:
        yield Finding(
            tls.fault, f"{_TLS_FAULTS[tls.fault]} ({clean(tls.detail)}). A browser opens no stream here."
        )
        return
    left, life = tls.not_after - tls.now, tls.not_after - tls.not_before
    if left < min(_SOON_SECONDS, life * _SOON_SHARE):
        yield Finding("certificate-soon", f"The certificate ends in {span(left)}.")


def protocol(seen: Seen) -> Iterator[Finding]:
    """Judge the versions of HTTP."""
    head = seen.first.head
    if head is None or not head.is_stream:
        return
    if (seen.tls is None or seen.tls.alpn != "h2") and not re.search(r"\bh3\b", head.value("Alt-Svc")):
        why = "Browsers use HTTP/2 with https:// only." if seen.tls is None else "The server offers no HTTP/2."
        text = "Over HTTP/1.1 a browser opens at most six connections to a host, for all tabs together."
        yield Finding("http1", f"{why} {text}")
    if not seen.is_https and not seen.is_loopback:
        yield Finding("plain-http", "The stream is not encrypted.")
    if head.version == 10:
        yield Finding("http10", "The answer is HTTP/1.0.")


def answer(seen: Seen) -> Iterator[Finding]:
    """Judge whether there is a stream at all."""
    first, head = seen.first, seen.first.head
    if seen.tls is not None and seen.tls.fault:
        return
    if first.loops:
        text = f"There are too many redirects; the last one leads to {first.redirects[-1]}."
        yield Finding("redirect-loop", text)
    elif head is None:
        yield _no_head(first)
    elif not head.is_stream:
        yield _no_stream(head, first.redirects)
    elif first.redirects:
        yield Finding("redirected", f"The request is redirected to {first.redirects[-1]}.")


def _no_head(first: Listening) -> Finding:
    if first.end is End.OPEN:
        return Finding("silent", f"No byte of the answer came in {span(first.seconds)}. Something holds it back.")
    why = f" ({clean(first.error)})" if first.error else ""
    return Finding("no-answer", f"The connection was closed after {span(first.seconds)} without an answer{why}.")


def _no_stream(head: Head, redirects: tuple[str, ...]) -> Finding:
    kind = clean(head.media_type) or "no content type"
    if redirects and head.status != 204:
        text = f"The request is redirected to {redirects[-1]}, which answers {head} with {kind}."
        return Finding("login", f"{text} This may be a login page, and EventSource stops for good.")
    if head.status == 204:
        return Finding("status", "The answer is 204: the stream is over, and EventSource stops for good.")
    if head.status != 200:
        reason = _REASONS.get(head.status, "This is not a stream.")
        text = f"The answer is {head}. {reason} After any status but 200, EventSource stops for good."
        return Finding("status", text)
    return Finding("content-type", f"The answer has {kind}, not text/event-stream. EventSource stops for good.")


def fields(seen: Seen) -> Iterator[Finding]:
    """Judge the header fields of the stream."""
    head = seen.first.head
    if head is None or not head.is_stream or seen.first.is_unavailable:
        return
    if head.charset not in ("", "utf-8", "utf8"):
        yield Finding("charset", f"The content type has the charset {clean(head.charset)}.")
    if seen.first.coding:
        text = f"The stream is compressed ({clean(seen.first.coding)})."
        yield Finding("compressed", f"{text} Compressors often hold events back, and they take memory.")
    yield from _caching(head)
    yield from _buffering_field(head)
    length = head.value("Content-Length")
    if length:
        text = f"The answer has a fixed length of {clean(length)} bytes. So it is a complete text, not a stream."
        yield Finding("content-length", text)


def _caching(head: Head) -> Iterator[Finding]:
    age, hits = head.value("Age"), (head.value("CF-Cache-Status"), head.value("X-Cache"))
    if (age.isdecimal() and int(age) > 0) or any(hit.upper().startswith("HIT") for hit in hits):
        yield Finding("cached", "The answer comes from a cache on the way, not from the app.")
    directives = head.directives
    if not directives.keys() & {"no-cache", "no-store"}:
        field = head.value("Cache-Control")
        text = f"Cache-Control is {clean(field)!r}" if field else "Cache-Control is missing"
        yield Finding("cacheable", f"{text}. A cache may keep the stream, or wait for its end.")
    elif "no-transform" not in directives:
        yield Finding("transformable", "Cache-Control has no no-transform, so a proxy may compress the stream.")


def _buffering_field(head: Head) -> Iterator[Finding]:
    value = head.value("X-Accel-Buffering").lower()
    if value == "no" or (not value and head.value("Server").lower().startswith(_NGINX)):
        return
    text = f"X-Accel-Buffering is {clean(value)!r}" if value else "X-Accel-Buffering is missing"
    yield Finding("accel-buffering", f"{text}. An nginx in front of this server would buffer the stream.")


def clock(seen: Seen) -> Iterator[Finding]:
    """Compare the server's clock with the one of this machine."""
    head = seen.first.head
    if head is None:
        return
    try:
        date = email.utils.parsedate_to_datetime(head.value("Date"))
    except (TypeError, ValueError):
        return
    skew = date.timestamp() - seen.first.clock
    if abs(skew) > _CLOCK_SECONDS:
        where = "ahead of" if skew > 0 else "behind"
        text = f"By its Date field the server is {span(abs(skew))} {where} this machine."
        yield Finding("clock", f"{text} Certificates, tickets and expiry times go wrong with such a clock.")
