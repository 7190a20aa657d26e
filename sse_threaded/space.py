"""What a server that can let a stream's thread go and the stream say to each other."""

from __future__ import annotations

from collections.abc import Callable

from .wrapped import Wrapped

# The key of the WSGI environ under which such a server puts a Space.
ENVIRON_KEY = "sse_threaded.parking"


class Space:
    """One request's; an object and not a key for each attribute, as a middleware may have copied the environ.

    :ivar resume: has a thread go on with the response; ``None``, the default, where the server does not offer it.
    :ivar wrapped: the subscriber of the request's stream, once there is one whose thread may leave.
    """

    __slots__ = ("resume", "wrapped")

    def __init__(self) -> None:
        self.resume: Callable[[], None] | None = None
        self.wrapped: Wrapped | None = None
