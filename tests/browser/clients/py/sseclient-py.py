"""sseclient-py reads one response; the app connects again, with the last id that it has seen."""

import os
import time

import requests
import sseclient
from report import report

last_event_id, wait = None, 1.0
while True:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    try:
        with requests.get(os.environ["EVENTS"], headers=headers, stream=True) as response:
            if response.status_code == 204:  # the channel is finished
                break
            for event in sseclient.SSEClient(response).events():
                report(event.event, event.data)
                last_event_id = event.id or last_event_id
                wait = int(event.retry) / 1000 if event.retry else wait
    except requests.RequestException:
        pass
    time.sleep(wait)
