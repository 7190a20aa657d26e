"""requests-sse connects again by itself, as often as it is told."""

import os

from report import report
from requests_sse import EventSource, InvalidStatusCodeError

try:
    with EventSource(os.environ["EVENTS"], max_connect_retry=100) as source:
        for event in source:
            report(event.type, event.data)
except InvalidStatusCodeError as error:
    if error.status_code != 204:  # the channel is finished
        raise
