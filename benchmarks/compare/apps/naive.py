"""The simplest app on threads: each stream has a queue, and publishing puts the event into every queue."""

import queue
import threading
from collections import defaultdict

lock = threading.Lock()
channels = defaultdict(list)


def app(environ, start_response):
    """Answer a request to one of the two URLs."""
    channel = environ["QUERY_STRING"].partition("=")[2]
    if environ["REQUEST_METHOD"] == "POST":
        for line in environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).split(b"\n"):
            event = b"data: %s\n\n" % line
            with lock:
                for waiting in channels[channel]:
                    waiting.put(event)
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
    return stream(channel)


def stream(channel):
    """Yield the events of a channel."""
    waiting = queue.Queue()
    with lock:
        channels[channel].append(waiting)
    try:
        yield b": hi\n\n"
        while True:
            yield waiting.get()
    finally:
        with lock:
            channels[channel].remove(waiting)
