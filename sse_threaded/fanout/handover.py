"""What a server that can let a stream's thread go and the stream say to each other."""

from __future__ import annotations

from .wrapped_subscriber import Server, WrappedSubscriber

# The key of the WSGI environ under which such a server puts a Handover.
ENVIRON_KEY = "sse_threaded.fanout.parked_streams"


class Handover:
    """One request's; an object and not a key for each attribute, as a middleware may have copied the environ.

    :ivar has_stream: whether a stream was made for the request.
    :ivar server: calls threads for the response; ``None``, the default, where it does not, and after its end.
    :ivar thread: which thread iterates the response.
    :ivar wrapped: the subscriber of the request's first stream, once there is one whose thread may leave.
    """

    __slots__ = ("has_stream", "server", "thread", "wrapped")

    def __init__(self) -> None:
        self.has_stream = False
        self.server: Server | None = None
        self.thread = 0
        self.wrapped: WrappedSubscriber | None = None
