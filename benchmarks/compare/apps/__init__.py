"""The applications of the servers, each with ``GET /events?channel=X`` and ``POST /publish?channel=X``."""
