"""aiohttp-sse-client2 connects again after a clean end; after any other the app does, with the last id."""

import asyncio
import os

import aiohttp
from aiohttp_sse_client2.client import EventSource
from report import report


async def main():
    headers = {}
    # By default a request ends after five minutes. A session of its own the library would leave open.
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        # By default a refused connection is tried again after ten seconds.
        settings = {"session": session, "headers": headers, "max_connect_retry": 0}
        while True:
            try:
                async with EventSource(os.environ["EVENTS"], **settings) as source:
                    async for event in source:
                        report(event.type, event.data, message=None)
                        headers["Last-Event-Id"] = event.last_event_id  # spelled as the library does
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
            except ConnectionAbortedError as error:
                if "status: 204" in str(error):  # the channel is finished
                    break
                raise


asyncio.run(main())
