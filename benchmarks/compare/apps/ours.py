"""This package: a plain WSGI function with one hub."""

import os

from sse_threaded import Hub

hub = Hub(os.environ["BENCH_LOG"])


def app(environ, start_response):
    """Answer a request to one of the two URLs."""
    channel = environ["QUERY_STRING"].partition("=")[2]
    if environ["REQUEST_METHOD"] == "POST":
        lines = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode().split("\n")
        if len(lines) == 1:
            hub.publish(channel, lines[0])
        else:
            with hub.log.transaction() as transaction:
                for line in lines:
                    transaction.append(channel, line)
        start_response("204 No Content", [])
        return []
    return hub.stream(environ, channel)(environ, start_response)
