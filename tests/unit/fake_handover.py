"""The hand-over of a request whose server never lets a stream leave the request's thread, but to the pump."""

from sse_threaded.fanout.handover import Handover


class FakeHandover(Handover):
    def __init__(self, take_back=None, *, hears_hang_ups=False):
        self.has_stream = self.can_resume = False
        self.thread = 0
        self.wrapped = None
        self.hears_hang_ups = hears_hang_ups
        self._take_back = take_back

    def take_back(self):
        if self._take_back is None:
            raise AssertionError("no stream was parked")
        self._take_back()

    def resume(self):
        raise AssertionError("no stream was lent to threads")

    def keep_thread(self):
        raise AssertionError("no stream was lent to threads")
