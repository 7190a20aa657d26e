"""sse-starlette: its response with a generator, as in its manual; each stream has an asyncio.Queue."""

import asyncio
from collections import defaultdict

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

channels = defaultdict(set)


async def events(request):
    """Answer with a stream."""
    queues = channels[request.query_params["channel"]]
    queue = asyncio.Queue()

    async def stream():
        queues.add(queue)
        try:
            yield {"comment": "hi"}
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(stream())


async def publish(request):
    """Put the events into every queue."""
    for data in (await request.body()).decode().split("\n"):
        for queue in channels[request.query_params["channel"]]:
            queue.put_nowait(data)
    return Response(status_code=204)


app = Starlette(routes=[Route("/events", events), Route("/publish", publish, methods=["POST"])])
