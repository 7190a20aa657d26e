"""The client of this package."""

import os

from report import report

from sse_threaded.client import EventSource

with EventSource(os.environ["EVENTS"], notices=True) as source:
    for event in source:
        report(event.event, event.data)
