"""Tests that need only Python.

Their temporary files are in memory, where there is room: thousands of small transactions need not wait for a disk.
The tests of other folders have SQLite's files on a disk. Who sets ``TMPDIR`` decides for all.
"""

import os
import shutil
import tempfile

_MEMORY = "/dev/shm"
_LEAST_BYTES = 1 << 30

if (
    "TMPDIR" not in os.environ
    and os.access(_MEMORY, os.W_OK | os.X_OK)
    and shutil.disk_usage(_MEMORY).free >= _LEAST_BYTES
):
    tempfile.tempdir = _MEMORY
