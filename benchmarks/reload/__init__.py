"""A deploy under load, event by event.

- ``__main__``: the command and its page; ``experiment``: one reload under load; ``result``: its figures;
- ``board_server``: the board, and the ways to replace its server;
- ``clients``: many clients in one thread, ``response_bytes``: reads what they receive; ``publisher``: posts tasks;
- ``plot``: the picture.
"""
