"""One process with simulated people: it reads commands, lines of JSON, and answers each with a line.

python -m benchmarks.presence.gossip_process LOG
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from sse_threaded import Hub

CHANNEL = "room"


def _resident() -> int:
    """The memory that this process uses, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run until the end of the input."""
    hub = Hub(sys.argv[1])
    hub.presence_count(CHANNEL)
    attendance = hub._pump.presence.attendance  # as if the people had streams
    for line in sys.stdin:
        command = json.loads(line)
        first, last = command.get("people", (0, 0))
        begun = time.monotonic()
        for place, number in enumerate(range(first, last), 1):
            if command["do"] == "enter":
                attendance.enter(f"user-{number:07}", [CHANNEL])
            else:
                attendance.leave(f"user-{number:07}", [CHANNEL])
            if place % 20 == 0:
                time.sleep(max(0.0, begun + place / (last - first) * command["seconds"] - time.monotonic()))
        if "count" in command:
            while hub.presence_count(CHANNEL) != command["count"]:
                time.sleep(0.02)
        used = resource.getrusage(resource.RUSAGE_SELF)
        found = {"cpu": used.ru_utime + used.ru_stime, "bytes": _resident()}
        print(json.dumps(found), flush=True)  # noqa: T201  # the answer
    hub.close()


if __name__ == "__main__":
    main()
