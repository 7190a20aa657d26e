"""Long times for tests of a log in PostgreSQL that are not about times. The machine may be busy."""

from __future__ import annotations

import unittest
from unittest import mock

from sse_threaded.log.postgres import log as log_module
from sse_threaded.log.postgres.timeouts import Timeouts

PATIENT = Timeouts(connect=30.0, answer=30.0, write=40.0, hold=60.0, retry=30.0)


def be_patient(test: unittest.TestCase) -> None:
    """Until the end of a test, let logs that are made without times have :data:`PATIENT`."""
    patch = mock.patch.object(log_module, "Timeouts", lambda: PATIENT)
    patch.start()
    test.addCleanup(patch.stop)
