"""A load client for event streams: ``sse-threaded bench URL``.

It opens many streams, publishes through the application's own POST, and tells what the streams got and when.
It speaks raw HTTP/1.1 over sockets, with one epoll loop a process, so that it needs less of a processor than
the servers it measures; its own share is among the figures. Any server of event streams may be at the URL.

::

    with Load(Target("http://127.0.0.1:3000/boards/board-1/events"), post=post) as load:
        opened = load.open(1000)
        heard = load.publish(count=100, rate=10)
"""
