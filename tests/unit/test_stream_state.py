"""The table of a stream's states: every state times every step."""

import socket
import threading
import unittest
from unittest import mock

from sse_threaded.fanout import subscriber as subscriber_module
from sse_threaded.fanout.stream_state import TRANSITIONS, EndReason, InvalidTransition, State, Step, state_after
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber

# Each state, then the state after END, LOSE, CUT, RETIRE and CLOSE; None where the step is a defect.
STEPS = (Step.END, Step.LOSE, Step.CUT, Step.RETIRE, Step.CLOSE)
TABLE = {
    State.OPEN: (State.ENDING, State.LOST, None, State.RETIRED, State.CLOSED),
    State.ENDING: (None, State.LOST, State.CUT, State.RETIRED, State.CLOSED),
    State.RETIRED: (None, State.RETIRED_LOST, State.CUT, None, State.CLOSED),
    State.LOST: (State.LOST, State.LOST, State.CUT, State.RETIRED_LOST, State.ABORTED),
    State.RETIRED_LOST: (None, State.RETIRED_LOST, State.CUT, None, State.ABORTED),
    State.CUT: (None, State.CUT, State.CUT, State.CUT, State.ABORTED),
    State.CLOSED: (None, State.CLOSED, None, None, None),
    State.ABORTED: (None, State.ABORTED, None, None, None),
}


class TableTest(unittest.TestCase):
    def test_every_state_times_every_step(self):
        self.assertEqual((set(TABLE), set(STEPS)), (set(State), set(Step)))
        for state, expected in TABLE.items():
            for step, after in zip(STEPS, expected, strict=True):
                with self.subTest(state=state, step=step):
                    if after is not None:
                        self.assertIs(state_after(state, step), after)
                        continue
                    with self.assertRaises(InvalidTransition) as caught:
                        state_after(state, step)
                    self.assertEqual((caught.exception.state, caught.exception.step), (state, step))
                    self.assertIn(f"{state.label} cannot {step.name}", str(caught.exception))

    def test_nothing_leads_out_of_an_end_or_back_to_the_beginning(self):
        for state, steps in TRANSITIONS.items():
            for after in steps.values():
                self.assertIsNot(after, State.OPEN)
                if state.is_closed:
                    self.assertIs(after, state)
                if state.is_lost:
                    self.assertTrue(after.is_lost, "who is lost stays so")

    def test_the_states_tell_what_may_be_done(self):
        self.assertEqual(
            {each for each in State if each.is_lost}, {State.LOST, State.RETIRED_LOST, State.CUT, State.ABORTED}
        )
        self.assertEqual({each for each in State if each.is_retired}, {State.RETIRED, State.RETIRED_LOST})
        self.assertEqual({each for each in State if each.is_closed}, {State.CLOSED, State.ABORTED})

    def test_a_reason_is_written_as_a_word(self):
        for reason in EndReason:
            self.assertEqual((f"{reason}", "%s" % (reason,)), (reason.value, reason.value))  # noqa: UP031


class SubscriberTest(unittest.TestCase):
    def test_a_step_that_is_no_step_leaves_the_state_as_it_was(self):
        subscriber = ThreadSubscriber(("a",), 10)
        self.assertRaises(InvalidTransition, subscriber.step, Step.CUT)
        self.assertIs(subscriber.state, State.OPEN)

    def test_the_first_reason_counts(self):
        subscriber = ThreadSubscriber(("a",), 10)
        subscriber.sleeper = mock.Mock()
        subscriber.end(EndReason.LEASE, b"lease")
        subscriber.end(EndReason.SHUTDOWN, b"shutdown")
        self.assertEqual((subscriber.state, subscriber.end_reason), (State.ENDING, EndReason.LEASE))
        self.assertEqual(subscriber.farewell, b"lease")


class TwoThreadsTest(unittest.TestCase):
    def test_a_loss_that_another_thread_finds_is_not_overwritten(self):
        """The pump ends a wrapped stream while the stream's thread finds its socket broken."""
        reads, goes_on = threading.Event(), threading.Event()
        real = subscriber_module.state_after

        def slow(state, step):
            after = real(state, step)
            if step is Step.END:
                reads.set()
                goes_on.wait(0.2)  # the other one has the time to get between the two halves of this step
            return after

        subscriber = make_wrapped(self)
        with mock.patch.object(subscriber_module, "state_after", slow):
            thread = threading.Thread(target=subscriber.end, args=(EndReason.LEASE, b""))
            thread.start()
            self.assertTrue(reads.wait(10))
            subscriber.step(Step.LOSE)
            goes_on.set()
            thread.join(10)
        self.assertEqual((subscriber.state, subscriber.end_reason), (State.LOST, EndReason.LEASE))


def make_wrapped(test):
    ours, theirs = socket.socketpair()
    test.addCleanup(ours.close)
    test.addCleanup(theirs.close)
    return WrappedSubscriber(("a",), 10, ours, mock.Mock(), mock.Mock())


if __name__ == "__main__":
    unittest.main()
