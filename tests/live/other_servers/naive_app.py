"""A stream as many apps write it: a generator, and no word about ids, reconnection or proxies."""

import time
from collections.abc import Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Answer one request (PEP 3333)."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    if environ["PATH_INFO"] != "/healthz":
        for number in range(100):
            yield b"data: %d\n\n" % number
            time.sleep(0.1)
