"""Runs the test modules in several processes at a time. ``tests/__main__.py`` is its command.

``selection`` finds the modules and reads what they say about themselves, ``pool`` starts a process for each module
(``worker`` is what runs in it), ``report`` prints and counts, ``durations`` remembers how long each class took.
"""
