"""A stream of sse-starlette that counts: each connection gets a few numbers, and then its end.

The path tells how many numbers there are in all. After the last one the status is 204.
"""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

A_CONNECTION = 7


async def healthz(request: Request) -> Response:
    """Tell that the server is there."""
    return Response("ok")


async def events(request: Request) -> Response:
    """Count on after the last event ID."""
    last = request.path_params["last"]
    begin = int(request.headers.get("Last-Event-ID", 0)) + 1
    if begin > last:
        return Response(status_code=204)

    async def count() -> AsyncIterator[dict[str, str | int]]:
        for number in range(begin, min(begin + A_CONNECTION, last + 1)):
            yield {"data": f"number\n{number}", "id": str(number), "event": "number", "retry": 20}
            await asyncio.sleep(0.01)

    return EventSourceResponse(count(), ping=1)


app = Starlette(routes=[Route("/healthz", healthz), Route("/events/{last:int}", events)])
