"""This package, other servers and a bare ``send()`` loop in one run.

- ``__main__``: the command; ``grid``: which combinations it measures; ``measure``: one combination;
- ``scenarios``: tests of parked streams alone;
- ``servers``: how each server is started, ``peers``: how the others are installed, ``apps``: their applications;
- ``figures``: reads the results, ``goals``: compares them with the goals;
- ``report``, ``scenario_report``, ``plot``: the page and its picture.
"""
