"""The client libraries that people use, as real programs against the real server.

``harness.py`` starts the server and runs the scenarios; ``catalogue.py`` says what each client needs and what
it does; ``docs/clients.md`` has the same as a table, which ``test_docs.py`` compares.
"""
