"""A page for operators: events as they come, a channel's history, who listens, and publishing by hand."""

from .app import DebugApp

__all__ = ["DebugApp"]
