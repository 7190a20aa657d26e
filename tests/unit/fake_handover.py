"""The hand-over of a request whose server never lets a stream leave the request's thread."""

from sse_threaded.fanout.handover import Handover


class FakeHandover(Handover):
    def __init__(self):
        self.has_stream = self.can_resume = False
        self.thread = 0
        self.wrapped = None

    def take_back(self):
        raise AssertionError("no stream was parked")

    def resume(self):
        raise AssertionError("no stream was lent to threads")

    def keep_thread(self):
        raise AssertionError("no stream was lent to threads")
