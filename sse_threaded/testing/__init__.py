"""For tests of apps that stream: live servers, and clients that do not hang on endless streams.

Every wait has a deadline. Every server listens on a free port of the loopback interface.

- :class:`LiveServer`: Werkzeug's threaded server in a thread of the test's process.
- :class:`GunicornServer`: the real gunicorn as a child process, which a test can kill and restart.
- :class:`EventStreamClient`: one connection, its bytes and its events.
- :class:`ResumingClient`: a thread that reconnects and resumes like a browser.
- :class:`StreamedResponse`: the events in a response of Flask's, Werkzeug's or Django's own test client.
- :class:`FakeClock`: time that a test moves on, for heartbeats, leases and tickets.
- :func:`request`: one ordinary request.
- :func:`uncommitted_events`: events of a transaction that the test rolls back, in SQLite or PostgreSQL.

::

    class NewsTest(unittest.TestCase):
        def test_a_published_event_reaches_the_stream(self):
            with LiveServer(app) as server, EventStreamClient(server.url + "/news") as client:
                request("POST", server.url + "/news", json={"title": "hello"})
                self.assertEqual(client.next_event(timeout=5).data, '{"title":"hello"}')
"""

from ..protocol.decoder import DecodedEvent, EventStreamDecoder
from .errors import BadResponse, Fault, ServerFailed, StreamEnded, StreamTimeout
from .fake_clock import FakeClock
from .gunicorn_server import GunicornServer
from .http_request import Reply, request
from .live_server import LiveServer
from .resuming_client import ResumingClient
from .stream_client import EventStreamClient
from .streamed_response import StreamedResponse
from .uncommitted_events import UncommittedEvent, uncommitted_events

__all__ = [
    "BadResponse",
    "DecodedEvent",
    "EventStreamClient",
    "EventStreamDecoder",
    "FakeClock",
    "Fault",
    "GunicornServer",
    "LiveServer",
    "Reply",
    "ResumingClient",
    "ServerFailed",
    "StreamEnded",
    "StreamTimeout",
    "StreamedResponse",
    "UncommittedEvent",
    "request",
    "uncommitted_events",
]
