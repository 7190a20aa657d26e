"""The servers' applications: ``GET /events?channel=X`` and ``POST /publish?channel=X``, and nothing else."""
