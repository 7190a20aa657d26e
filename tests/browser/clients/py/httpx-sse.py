"""httpx-sse reads one response; the app connects again, with the last id that it has seen."""

import os
import time

import httpx
from httpx_sse import connect_sse
from report import report

last_event_id, wait = "", 1.0
with httpx.Client(timeout=httpx.Timeout(5, read=60)) as client:
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with connect_sse(client, "GET", os.environ["EVENTS"], headers=headers) as source:
                if source.response.status_code == 204:  # the channel is finished
                    break
                for event in source.iter_sse():
                    report(event.event, event.data)
                    last_event_id = event.id or last_event_id
                    wait = event.retry / 1000 if event.retry is not None else wait
        except httpx.TransportError:
            pass
        time.sleep(wait)
