"""The tests; ``python -m tests --help`` says how to run some of them, ``bash tests/run`` runs all."""
