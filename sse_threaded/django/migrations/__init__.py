"""Django's migrations of the log's tables."""
