"""m0serve: a view answers with two headers, and the server holds the stream, as in its manual."""

from m0serve import m0pub


def app(environ, start_response):
    """Answer a request to one of the two URLs."""
    channel = environ["QUERY_STRING"].partition("=")[2]
    if environ["REQUEST_METHOD"] == "POST":
        for line in environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode().split("\n"):
            m0pub.publish(channel, line)
        start_response("204 No Content", [])
        return []
    head = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    start_response("200 OK", [*head, ("M0-Hold", "stream"), ("M0-Channel", channel)])
    return [b": hi\n\n"]
