"""The cost of the rule that each process reads all events of its hub, also those that no stream in it wants.

- ``__main__``: the command; ``experiment``: processes that listen while others publish;
- ``model``: straight lines fitted to the figures; ``kernel_memory``: memory of the kernel for a connection;
- ``report``: the page.
"""
