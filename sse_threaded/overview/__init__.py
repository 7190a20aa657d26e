"""The streams that are open in all processes of a log, for operators."""

from .asking import DEFAULT_SECONDS, ask
from .report import DEFAULT_MOST, ProcessReport, StreamRow, from_json, to_json

__all__ = ["DEFAULT_MOST", "DEFAULT_SECONDS", "ProcessReport", "StreamRow", "ask", "from_json", "to_json"]
