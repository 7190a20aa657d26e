"""aiohttp-sse-client2 connects again after a clean end; after any other the app does, with the last id."""

import asyncio
import os

import aiohttp
from aiohttp_sse_client2.client import EventSource
from report import report


async def main():
    headers = {}
    endless = aiohttp.ClientTimeout(total=None)
    while True:
        try:
            async with EventSource(os.environ["EVENTS"], headers=headers, timeout=endless) as source:
                async for event in source:
                    report(event.type, event.data, message=None)
                    headers["Last-Event-Id"] = event.last_event_id  # spelled as the library does
        except aiohttp.ClientError:
            await asyncio.sleep(0.2)


asyncio.run(main())
