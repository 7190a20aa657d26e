"""This package, with an app that filters its stream by a generator, so the app is asked for every event."""

from ours import app as bare
from ours import hub


def app(environ, start_response):
    """Answer a request to one of the two URLs."""
    if environ["REQUEST_METHOD"] == "POST":
        return bare(environ, start_response)
    response = hub.stream(environ, environ["QUERY_STRING"].partition("=")[2])
    response.response = (chunk for chunk in response.response if b"for:admin" not in chunk)
    return response(environ, start_response)
