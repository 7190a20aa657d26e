"""This package, other servers and a bare ``send()`` loop in one run.

- ``__main__``: the command; ``options``: its options; ``plan``: which of the following it measures;
- ``grid``: combinations of servers and streams; ``measure``: one combination;
- ``scenarios``: the other measurements; ``trial``: their input. ``parked_scenarios``: parked streams alone;
  ``request_scenarios``: ordinary requests, by ``request_load``; ``publish_scenarios``: threads that publish;
- ``servers``: the servers; ``starters``: how each is started; ``peers``: how the others are installed; ``apps``:
  their applications, and the floor and the client of requests in C;
- ``figures``: reads the results; ``goals``: the goals and their figures; ``goal``: compares a run with one;
- ``report``, ``scenario_report``, ``request_report``, ``plot``: the page and its picture.
"""
