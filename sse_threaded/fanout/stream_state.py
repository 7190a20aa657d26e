"""The state of a stream, from its admission to its end, in one table.

A subscriber holds one :class:`State`. Each thing that happens to the stream is a :class:`Step`, and
:data:`TRANSITIONS` says which state follows. A step that the table does not list is a defect and raises
:class:`InvalidTransition`.

                   END       LOSE           CUT    RETIRE         CLOSE
    OPEN           ENDING    LOST           -      RETIRED        CLOSED
    ENDING         -         LOST           CUT    RETIRED        CLOSED
    RETIRED        -         RETIRED_LOST   CUT    -              CLOSED
    LOST           LOST      LOST           CUT    RETIRED_LOST   ABORTED
    RETIRED_LOST   -         RETIRED_LOST   CUT    -              ABORTED
    CUT            -         CUT            CUT    CUT            ABORTED
    CLOSED         -         CLOSED         -      -              -
    ABORTED        -         ABORTED        -      -              -

Which thread makes which step:

- END, CUT, RETIRE and CLOSE: any thread, with the registry's lock held; or the only thread that has the
  subscriber.
- LOSE of a subscriber without a thread: the pump's thread; before the pump has it, the server's thread. Where the
  server hears hang-ups, any thread, with the registry's lock held. Two that do it at once do no harm.
- LOSE of a subscriber with a thread: that thread without the registry's lock, or the pump's thread. So these
  subscribers guard each step with a lock of their own.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """The state of a stream.

    :ivar is_lost: no more bytes can be sent to the client.
    :ivar is_retired: the stream has ended, and the app's iterable around it may go on.
    :ivar is_closed: the hub has forgotten the stream, and does not touch its socket any more.
    """

    OPEN = "open"
    """It gets events."""

    ENDING = "ending"
    """It must end, and its last bytes are on their way."""

    RETIRED = "retired"
    """Its stream has ended, and the app's iterable around it has not."""

    LOST = "lost"
    """Its socket is broken, or its client has hung up."""

    RETIRED_LOST = "retired and lost"
    """Its stream has ended, and its socket is broken or its client has hung up."""

    CUT = "cut"
    """The pump has shut its connection down, as the client did not read."""

    CLOSED = "closed"
    """The end. The hub knows of no bytes that were not sent."""

    ABORTED = "aborted"
    """The end. The client did not get everything."""

    def __init__(self, label: str) -> None:
        # Attributes, not properties: the pump asks for them at each heartbeat.
        self.label = label
        self.is_lost = label in ("lost", "retired and lost", "cut", "aborted")
        self.is_retired = label in ("retired", "retired and lost")
        self.is_closed = label in ("closed", "aborted")


class Step(enum.Enum):
    """A thing that happens to a stream."""

    END = enum.auto()
    """The pump tells it to end, for an :class:`EndReason` other than ``GONE``."""

    LOSE = enum.auto()
    """Its socket fails, or its client hangs up. Several threads may find that out, so it may repeat."""

    CUT = enum.auto()
    """The pump shuts its connection down."""

    RETIRE = enum.auto()
    """The stream has given its last chunk to the app's iterable, which goes on."""

    CLOSE = enum.auto()
    """The hub forgets it. This happens once."""


class EndReason(str, enum.Enum):
    """Why a stream ends. The first reason counts."""

    LEASE = "lease"
    """Its lease is over."""

    SLOW = "slow"
    """Too much waits for its client."""

    GONE = "gone"
    """Its client has hung up, or its response was closed."""

    FINISHED = "finished"
    """All its channels are finished."""

    DISCONNECTED = "disconnected"
    """The app has disconnected its user, or its channel."""

    SHUTDOWN = "shutdown"
    """The hub is closed."""

    BEHIND = "behind"
    """The pump has missed events, so each client must resume by its own id."""

    UNAVAILABLE = "unavailable"
    """The log could not be read for it."""

    OVERLOAD = "overload"
    """It would need a thread, and none is left."""

    def __str__(self) -> str:
        return str(self.value)


TRANSITIONS: dict[State, dict[Step, State]] = {
    State.OPEN: {
        Step.END: State.ENDING,
        Step.LOSE: State.LOST,
        Step.RETIRE: State.RETIRED,
        Step.CLOSE: State.CLOSED,
    },
    State.ENDING: {
        Step.LOSE: State.LOST,
        Step.CUT: State.CUT,
        Step.RETIRE: State.RETIRED,
        Step.CLOSE: State.CLOSED,
    },
    State.RETIRED: {
        Step.LOSE: State.RETIRED_LOST,
        Step.CUT: State.CUT,
        Step.CLOSE: State.CLOSED,
    },
    State.LOST: {
        Step.END: State.LOST,  # its socket failed before, and the pump finds out now
        Step.LOSE: State.LOST,
        Step.CUT: State.CUT,
        Step.RETIRE: State.RETIRED_LOST,
        Step.CLOSE: State.ABORTED,
    },
    State.RETIRED_LOST: {
        Step.LOSE: State.RETIRED_LOST,
        Step.CUT: State.CUT,
        Step.CLOSE: State.ABORTED,
    },
    State.CUT: {
        Step.LOSE: State.CUT,
        Step.CUT: State.CUT,  # its thread is still stuck
        Step.RETIRE: State.CUT,
        Step.CLOSE: State.ABORTED,
    },
    State.CLOSED: {Step.LOSE: State.CLOSED},  # a thread of the server found out too late
    State.ABORTED: {Step.LOSE: State.ABORTED},
}


class InvalidTransition(RuntimeError):
    """A step that a stream cannot make in its state: a defect of this package.

    :ivar state: the state.
    :ivar step: the step.
    """

    def __init__(self, state: State, step: Step) -> None:
        super().__init__(f"a stream that is {state.label} cannot {step.name}")
        self.state = state
        self.step = step


def state_after(state: State, step: Step) -> State:
    """The state that follows ``step``.

    :raises InvalidTransition: the table does not list it.
    """
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise InvalidTransition(state, step) from None
