"""The command ``sse-threaded check URL``: probes a deployment from outside, and names its faults.

It works with any server of event streams. ``probes`` sends the requests and notes the facts. ``findings`` makes
sentences of the facts, and knows no socket. ``report`` prints them.

::

    seen = Check(Target.of("https://app.example/events"), Settings()).run()
    for finding in findings(seen):
        print(finding.code, finding.text, finding.remedy)
"""
