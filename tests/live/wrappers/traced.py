"""The apps of :mod:`tests.live.wrappers.apps`, wrapped by the tracer that ``TRACER`` names.

Nothing leaves the machine: what would receive traces is a closed port.
"""

from __future__ import annotations

import os
from typing import Any

TRACER = os.environ["TRACER"]
CLOSED = os.environ["TRACER_PORT"]  # no server listens there

if TRACER == "ddtrace":
    os.environ.update(
        DD_TRACE_AGENT_URL=f"http://127.0.0.1:{CLOSED}",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_STARTUP_LOGS="false",
        DD_CRASHTRACKING_ENABLED="false",
    )
    import ddtrace.auto  # noqa: F401  # before the modules that it changes
    from ddtrace.contrib.internal.wsgi.wsgi import DDWSGIMiddleware as Middleware
elif TRACER == "sentry":
    import sentry_sdk
    from sentry_sdk.integrations.bottle import BottleIntegration
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.integrations.flask import FlaskIntegration
    from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware as Middleware

    sentry_sdk.init(
        dsn=f"http://key@127.0.0.1:{CLOSED}/1",
        traces_sample_rate=1.0,
        integrations=[BottleIntegration(), DjangoIntegration(), FlaskIntegration()],
        auto_enabling_integrations=False,  # they import all that is installed and that sentry knows
        shutdown_timeout=0,
    )
else:
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as Middleware
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)

from tests.live.wrappers import apps, frameworks  # noqa: E402  # as above

if TRACER == "opentelemetry":
    FlaskInstrumentor().instrument_app(frameworks.flask_app)
    DjangoInstrumentor().instrument()
    frameworks.django_app.load_middleware()  # again, with the tracer's

traced: Any = Middleware(apps.app)


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """The app; what asks about it is not traced, as that would be many spans."""
    if environ["PATH_INFO"].strip("/") in (*apps.APPS, *apps.OF_FRAMEWORKS):
        return traced(environ, start_response)
    return apps.app(environ, start_response)
