"""How long a request may take to arrive.

gunicorn's configuration file may set these, as each use reads them here again::

    from sse_threaded.server import deadlines

    deadlines.HEAD_SECONDS = 30.0
"""

from __future__ import annotations

# Seconds from the first byte of a request to the end of its head. A browser sends a head in one packet or two;
# the slowest honest client needs a few seconds for some kilobytes of cookies. The TLS handshake gets as long.
HEAD_SECONDS = 10.0

# Seconds that the server waits for any body, and the bytes a second that must come on average after that. A modem
# of 1998 has ten times this rate.
BODY_SECONDS = 10.0
BODY_RATE = 500

# The same for a long body, which holds one of few threads: it must come faster after a minute. With BODY_RATE
# alone, a client that announces 10 GB could hold its thread for months. A client with half of this rate can still
# send 1.2 megabytes.
LONG_BODY_SECONDS = 60.0
LONG_BODY_RATE = 20_000

# Seconds that the server waits for a client that does not take all of a response at once. For so many bytes that
# it takes it gets a second back, but it never has more than these seconds left. nginx waits as long for any byte.
# A phone with a bad connection has ten times this rate.
SEND_SECONDS = 60.0
SEND_RATE = 500

# Seconds that a thread waits for the rest of a body that the app did not read, before the connection is used
# again: gunicorn's.
DRAIN_SECONDS = 5.0

# Seconds that a connection stays half open after the last response, so that the client gets all of it (RFC 9112,
# section 9.6). gunicorn waits as long.
LINGER_SECONDS = 2.0


def body_seconds(received: int) -> float:
    """How many seconds the server waits in all for a body of which so many bytes have come."""
    return min(BODY_SECONDS + received / BODY_RATE, LONG_BODY_SECONDS + received / LONG_BODY_RATE)
