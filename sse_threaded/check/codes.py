"""The codes of the findings: how serious each is, and how to mend it. docs/check.md explains each of them.

A code keeps its name and its meaning, so that a script can rely on it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Level(Enum):
    """How serious a finding is.

    ``FAULT``: clients lose their stream or events, or never get any. ``WARNING``: this happens at certain times,
    or costs more than necessary. ``NOTE``: good to know.
    """

    FAULT = "fault"
    WARNING = "warning"
    NOTE = "note"


class Code(NamedTuple):
    """A kind of finding.

    :ivar level: how serious it is.
    :ivar remedy: how to mend it, in one or two sentences.
    """

    level: Level
    remedy: str


_FAULTS = {
    "certificate-expired": "Renew the certificate, reload the server, and see that the renewal runs by itself.",
    "certificate-name": "Get a certificate for the name in the URL, or use the name that the certificate has.",
    "certificate-untrusted": "Use a certificate of a known authority, and send its intermediate certificates too. "
    "For an authority of your own, give --cacert FILE.",
    "tls": "See that this port speaks TLS 1.2 or 1.3, and that the server knows the name in the URL.",
    "login": "Answer 401 in place of a redirect. If the check needs a login, give --header 'Cookie: ...'.",
    "redirect-loop": "Remove the redirect. Often app and proxy disagree about https://, or about a last slash.",
    "status": "Let the view answer 200 with a stream. If it cannot do so now, answer 200 with a `retry` line.",
    "content-type": "Send Content-Type: text/event-stream, and let no proxy change it.",
    "no-answer": "Look into the logs of the proxy and of the server for this time.",
    "silent": "Switch off buffering in the proxy and in middleware. Let the server send a first event at once, "
    "and a comment every 15 seconds.",
    "buffered": "Switch off buffering and compression of text/event-stream in the proxy, the CDN and middleware.",
    "idle-timeout": "Raise the time-out of the proxy to more than two heartbeats, or send heartbeats more often.",
    "cut": "Look into the logs of the proxy and of the server for a time-out, an error or a killed worker.",
    "content-length": "Let the app answer with an iterator, and remove middleware that collects the whole answer.",
    "cached": "Send Cache-Control: no-cache with the stream, and exclude its path from the cache of the CDN.",
    "unavailable": "Look into the log of the app. It may be full or about to end, or it cannot read its events.",
    "cors": "Send Access-Control-Allow-Origin once, with exactly this origin. For cookies, also send "
    "Access-Control-Allow-Credentials: true.",
    "cors-preflight": "Answer OPTIONS with 204, Access-Control-Allow-Origin and Access-Control-Allow-Headers. Ask "
    "for no login there.",
    "resume": "Read Last-Event-ID in the view, and send the later events first. Let the proxy pass this field on.",
}

_WARNINGS = {
    "certificate-soon": "Renew the certificate now, and see why the automatic renewal has not run.",
    "http10": "Let the server answer with HTTP/1.1. With HTTP/1.0 a client cannot tell a cut from an end.",
    "charset": "Send charset=utf-8 or no charset. Browsers always read event streams as UTF-8.",
    "compressed": "Leave text/event-stream out of compression, in the proxy and in middleware.",
    "cacheable": "Send Cache-Control: no-cache, no-transform with the stream.",
    "format": "Write each event as lines such as 'data: hello', and an empty line after them.",
    "no-heartbeat": "Send a comment, which is a line with a colon, every 15 seconds.",
    "slow-heartbeat": "Send a comment every 15 seconds. Many proxies cut a connection that is silent for 60.",
    "slow-delivery": "Look for a loop in the app that polls, a busy server, or a buffer on the way.",
    "post": "Give a URL, a body and header fields with which the app accepts a POST.",
    "no-retry": "Send a line such as 'retry: 5000' at the beginning of the stream.",
    "retry-value": "Send a reconnection time between 1000 and 30000 milliseconds.",
    "no-ids": "Give each event an id, and resume after Last-Event-ID.",
    "ambiguous-ids": "Put something into each id that changes when the numbers start again, as in kxqwzp-17.",
    "unknown-id": "Answer 200 to an unknown id, too, and tell the client to load its state again.",
    "no-farewell": "If the server must end a stream, first send an event with a reconnection time.",
    "slow-farewell": "Close the connection right after the last event. A proxy may hold the end back.",
    "cors-any-origin": "List the allowed origins, and do not copy the Origin field into the answer.",
    "cors-vary": "Send Vary: Origin. Otherwise a cache may give a page the answer for another origin.",
    "head": "Answer HEAD at once with the same fields and no body, or with 405.",
    "clock": "Let NTP set the clock of the server, and of this machine.",
}

_NOTES = {
    "http1": "Serve HTTP/2 to browsers: it has one connection for all tabs.",
    "plain-http": "Use https://. Proxies and virus scanners on the way can read and buffer plain HTTP.",
    "redirected": "Use the last address directly. Each reconnection follows the redirect again.",
    "accel-buffering": "Send X-Accel-Buffering: no with the stream. Then no nginx on the way buffers it.",
    "transformable": "Add no-transform to Cache-Control. Then no proxy compresses the stream.",
    "no-events": "Give --post URL BODY. Then the check publishes an event itself.",
    "ended": "If streams end too often, look for a limit on their life: a lease, max_requests, a time-out.",
}

CODES = {
    **{name: Code(Level.FAULT, remedy) for name, remedy in _FAULTS.items()},
    **{name: Code(Level.WARNING, remedy) for name, remedy in _WARNINGS.items()},
    **{name: Code(Level.NOTE, remedy) for name, remedy in _NOTES.items()},
}
