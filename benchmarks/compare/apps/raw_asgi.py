"""ASGI without a framework: each stream has an asyncio.Queue."""

import asyncio
from collections import defaultdict

HEAD = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

channels = defaultdict(set)


async def app(scope, receive, send):
    """Answer a request to one of the two URLs."""
    if scope["type"] != "http":
        return
    queues = channels[scope["query_string"].partition(b"=")[2]]
    if scope["method"] == "POST":
        await publish(queues, receive, send)
    else:
        await stream(queues, send)


async def publish(queues, receive, send):
    """Put the events into every queue."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    for line in body.split(b"\n"):
        event = b"data: %s\n\n" % line
        for queue in queues:
            queue.put_nowait(event)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def stream(queues, send):
    """Send the events of a queue to the client."""
    queue = asyncio.Queue()
    queues.add(queue)
    try:
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        await send({"type": "http.response.body", "body": b": hi\n\n", "more_body": True})
        while True:
            await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})
    finally:
        queues.discard(queue)
