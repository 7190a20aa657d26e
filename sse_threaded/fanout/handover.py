"""How a connection goes from the thread that answers its request to the pump, and back to the server.

A server that does not need a thread for each open stream puts a :class:`Handover` into the WSGI environ of each
request. Through it the stream and its subscriber call the server.
"""

from __future__ import annotations

import threading
from abc import abstractmethod

from .wrapped_subscriber import Server, WrappedSubscriber

# The key of the WSGI environ under which such a server puts a Handover.
ENVIRON_KEY = "sse_threaded.parking"


class Handover(Server):
    """The connection of one request, as a stream calls it. Each server has a subclass.

    It is an object and not a key for each attribute, as a middleware may have copied the environ.

    A *bare* stream is what the app returned, and nothing changes its bytes. The pump writes to its socket:

    1. The request's thread: ``hub.stream()`` makes the stream, which sets :attr:`has_stream`.
    2. The request's thread: the server calls ``EventStream.park()``. The stream takes a parking place and returns
       a ``Parking``. Nothing is sent yet. If the server fails now, it calls ``Parking.cancel()``.
    3. The request's thread: the server's own code is done with the connection. The server gives it to the pump by
       ``Pump.park()``, and the thread is free. Until the next step the server does not use the socket. It may only
       watch it, see :attr:`hears_hang_ups`.
    4. The pump's thread: the stream has ended, and its subscriber calls :meth:`take_back`.
    5. A thread of the server: it writes the access line and closes the app's iterable. Then the connection waits
       for its next request, or is closed.

    A *wrapped* stream is inside an iterable of the app's. Threads of the server ask that iterable for chunks:

    1. As above.
    2. The request's thread: the server asks the app's iterable for chunks. The stream in it calls :meth:`may_lend`
       and :meth:`lend_to_threads`.
    3. The request's thread: the server's own code is done with the connection. When the stream has nothing, the
       server calls the subscriber's ``leave()``, and the thread is free.
    4. The pump's thread: there is an event, or the socket takes more. The subscriber calls :meth:`resume`.
    5. A thread of the server: it asks the app's iterable until there is nothing, and calls ``leave()``. Steps 4
       and 5 repeat. Where the wrapper never lets the thread leave, the subscriber calls :meth:`keep_thread`.
    6. A thread of the server: the app's iterable has ended. It goes on as in step 5 of a bare stream.

    :ivar hears_hang_ups: whether the server watches the socket of a parked stream, and calls ``Pump.hear()`` when
        it becomes readable. Then the pump does not watch it for that. Each class decides; default ``False``.

    The constructor of the subclass sets these:

    :ivar has_stream: whether a stream was made for the request.
    :ivar can_resume: whether the server can go on with the response on another thread; false after its end.
    :ivar thread: the identifier of the thread that asks the response for chunks.
    :ivar wrapped: the subscriber of the request's first wrapped stream; else ``None``.
    """

    __slots__ = ("can_resume", "has_stream", "thread", "wrapped")

    hears_hang_ups = False

    can_resume: bool
    has_stream: bool
    thread: int
    wrapped: WrappedSubscriber | None

    # The stream calls these, on the request's thread.

    def may_lend(self) -> bool:
        """Whether the stream that asks may let its thread leave."""
        # The server knows only one stream of a response, and only its own thread can tell it something. So a
        # second stream may not let its thread leave. Neither may a stream that a thread of the app iterates.
        return self.can_resume and self.wrapped is None and self.thread == threading.get_ident()

    def lend_to_threads(self, wrapped: WrappedSubscriber) -> None:
        """Note that threads which come and go are to write to the connection."""
        self.wrapped = wrapped

    # The subscriber calls these: this one, and those of :class:`.wrapped_subscriber.Server`.

    @abstractmethod
    def take_back(self) -> None:
        """Take the connection back, as the pump is done with it. The pump's thread, so this must not wait."""
