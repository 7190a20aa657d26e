"""The ASGI app that does the same as ``bare.py``."""

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"ok"}


async def app(scope, receive, send):
    """Answer any request."""
    if scope["type"] == "http":
        await send(START)
        await send(BODY)
