"""Where things are in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# gunicorn's configuration of the board.
BOARD_CONFIG = ROOT / "deploy" / "gunicorn.conf.py"


def python_path(checkout: Path | None = None) -> str:
    """Return a ``PYTHONPATH`` with which a child process imports the package of a checkout.

    :param checkout: its folder; default ``None``: this checkout.
    """
    return os.pathsep.join([str(checkout or ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
