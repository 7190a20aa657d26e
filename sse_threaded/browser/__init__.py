"""The browser client ``live.js``: how an app serves it, and how a view answers it.

    from sse_threaded.browser import LiveScript, asked_channels, script

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/live": LiveScript()})   # serves /live/<script().name>

    channels, refusal = asked_channels(request, may_read)                        # in the view of /events
    return refusal or hub.stream(request, channels)

The files of this package:

- ``live.js``: the source, and for npm the module; ``live.d.ts``: its types, made from its comments;
- ``static/sse_threaded/live.min.js``: the same without comments and long names, made by esbuild. Browsers get it.
- ``package.json``: for npm.

``python -m tests.harness.live_script`` makes the files again after a change. Any thread may use this package.
"""

from __future__ import annotations

from .channels import AskedChannels, asked_channels
from .script import LiveScript, Script, script

__all__ = ["AskedChannels", "LiveScript", "Script", "asked_channels", "script"]
