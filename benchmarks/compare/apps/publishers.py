"""Threads of one process that publish as fast as they can: publishers.py URL THREADS SECONDS.

Each thread has its own channel. It prints one line of JSON: how many events, in how many seconds, and the
processor time in seconds.
"""

import json
import sys
import threading
import time

from sse_threaded import Hub

# As many bytes as the events of the other measurements.
DATA = "x" * 110

# Events before the measurement: the first ones open the log. Then seconds of rest: an append looks more closely
# at a folder that was changed a moment ago, and the log was made just now.
WARM_UP = 200
REST = 4.0


def main(url, threads, seconds):
    """Publish, and print the result."""
    hub = Hub(url)
    for _ in range(WARM_UP):
        hub.publish("warm-up", DATA)
    time.sleep(REST)
    ready = threading.Barrier(threads + 1)
    counts = [0] * threads
    end = None

    def publish(number):
        channel = f"channel-{number}"
        ready.wait()
        while time.monotonic() < end:
            hub.publish(channel, DATA)
            counts[number] += 1

    running = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    processor, begun = time.process_time(), time.monotonic()
    end = begun + seconds
    ready.wait()
    for thread in running:
        thread.join()
    took = time.monotonic() - begun
    found = {"events": sum(counts), "seconds": took, "processor": time.process_time() - processor}
    hub.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
