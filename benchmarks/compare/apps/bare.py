"""A WSGI app that does nothing: each answer is two bytes."""

HEAD = [("Content-Type", "text/plain"), ("Content-Length", "2")]


def app(environ, start_response):
    """Answer any request."""
    start_response("200 OK", HEAD)
    return [b"ok"]
