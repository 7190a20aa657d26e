"""``sse-threaded top``: a live table of the streams of all processes."""
