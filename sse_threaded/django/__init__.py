"""A Django app: events in Django's own PostgreSQL or SQLite, in the transactions of its views.

    INSTALLED_APPS += ["sse_threaded.django"]       # then run "manage.py migrate"

    from sse_threaded.django import publish, stream

    def order(request):
        with transaction.atomic():
            Order.objects.create(item=request.POST["item"])
            publish("orders", {"type": "order", "item": request.POST["item"]})
        return HttpResponse(status=201)

    def order_events(request):
        return stream(request, "orders")

Any thread may call these functions. docs/django.md explains them, the settings and the tests. With a log in
another place, only ``stream(request, "orders", hub=...)`` is needed, and no setting.
"""

from .hubs import hub
from .publishing import disconnect, finish, publish
from .streams import stream

__all__ = ["disconnect", "finish", "hub", "publish", "stream"]
