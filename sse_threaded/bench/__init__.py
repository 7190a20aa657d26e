"""A load client for event streams: ``sse-threaded bench URL``.

It opens many streams, publishes through the application's own POST, and measures what the streams receive and
when. Each of its processes speaks HTTP/1.1 over raw sockets in one epoll loop. So it needs less processor time
than the servers that it measures; the figures contain its own share. It can measure any server of event streams.

::

    with Load() as load:
        opened = load.open(Endpoint("http://127.0.0.1:3000/boards/board-1/events"), 1000)
        delivered = load.publish(post, count=100, rate=10)
"""
