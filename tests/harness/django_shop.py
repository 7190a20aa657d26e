"""Views of a Django project, and its own tests of them: publish in each of Django's classes for tests.

Each log of ``sse_threaded.django`` runs them.
"""

VIEWS = """
from django.db import transaction
from django.http import HttpResponse
from sse_threaded.django import publish, stream
from .models import Order


def save(item):
    Order.objects.create(item=item)
    return publish("orders", {"item": item})


@transaction.atomic
def order(request):
    save(request.POST["item"])
    return HttpResponse(status=201)


@transaction.atomic
def broken_order(request):
    save(request.POST["item"])
    raise ZeroDivisionError


def half_order(request):
    with transaction.atomic():
        save("first")
        try:
            with transaction.atomic():
                save("second")
                with transaction.atomic():
                    save("third")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        save("fourth")
    return HttpResponse(status=201)


def plain_order(request):
    return HttpResponse(save(request.POST["item"]))


def order_events(request):
    Order.objects.count()  # as a view that looks at the session or the user
    return stream(request, "orders")
"""
URLS = """
from django.urls import path
from shop import views

urlpatterns = [path(name, getattr(views, name)) for name in (
    "order", "broken_order", "half_order", "plain_order", "order_events"
)]
"""

# shop/tests.py
TESTS = """
import json
from unittest import mock
from django.db import connection, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from sse_threaded.django import disconnect, finish, hub, publish
from sse_threaded.testing import uncommitted_events
from .models import Order


def items_in(events):
    return [json.loads(event.data)["item"] for event in events]


def watched_ring():
    log = hub().log
    return mock.patch.object(log, "ring", side_effect=log.ring)


class RowsCase(TransactionTestCase):
    def setUp(self):
        self.before = hub().log.last_sequence()
        self.client.raise_request_exception = False

    def assert_is(self, *items):
        # A row for each event, and an event for each row.
        self.assertEqual(items_in(hub().log.read(self.before)), list(items))
        self.assertEqual([item for (item,) in Order.objects.order_by("id").values_list("item")], list(items))


class CommittedTest(RowsCase):
    def test_a_view_that_writes_and_publishes(self):
        self.assertEqual(self.client.post("/order", {"item": "tea"}).status_code, 201)
        self.assert_is("tea")

    def test_a_view_that_raises_after_the_publish(self):
        self.assertEqual(self.client.post("/broken_order", {"item": "tea"}).status_code, 500)
        self.assert_is()
        self.client.post("/order", {"item": "milk"})
        self.assert_is("milk")

    def test_a_savepoint_that_is_rolled_back_takes_its_events(self):
        self.assertEqual(self.client.post("/half_order").status_code, 201)
        self.assert_is("first", "fourth")

    def test_outside_of_atomic_the_id_is_known(self):
        text = self.client.post("/plain_order", {"item": "tea"}).content.decode()
        self.assertEqual(text, hub().log.last_event_id())
        self.assert_is("tea")

    def test_the_end_of_a_channel_and_of_streams_belong_to_the_transaction(self):
        Order.objects.all().delete()
        for commits in (False, True):
            with transaction.atomic():
                finish("orders", {"item": "last"})
                disconnect(user=7)
                transaction.set_rollback(not commits)
            found = [(record.channel, record.event) for record in hub().log.read(self.before)]
            expected = [("orders", "stream-finished"), ("sse_threaded:control", None)] * commits
            self.assertEqual(found, expected)
        finish("orders")
        disconnect(channel="orders")
        self.assertEqual(hub().log.last_sequence(), self.before + 4)
        with self.assertRaisesMessage(ValueError, "name a user"):
            disconnect()

    def test_events_have_the_order_of_their_transaction(self):
        with transaction.atomic():
            for number in range(20):
                publish("orders", {"item": number})
        self.assertEqual(items_in(hub().log.read(self.before)), list(range(20)))

    def test_all_events_of_a_transaction_ring_once(self):
        with watched_ring() as ring:
            with transaction.atomic():
                for number in range(3):
                    publish("orders", number)
            self.assertEqual(ring.call_count, 1)
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                publish("orders", "rolled back")
                raise ZeroDivisionError
            self.assertEqual(ring.call_count, 1)
            with transaction.atomic():
                publish("orders", "again")
            self.assertEqual(ring.call_count, 2)

    def test_a_savepoint_that_is_rolled_back_does_not_keep_others_from_ringing(self):
        with watched_ring() as ring, transaction.atomic():
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                publish("orders", "gone")
                raise ZeroDivisionError
            publish("orders", "kept")
            ring.assert_not_called()
        ring.assert_called_once()

    def test_a_block_that_is_set_to_roll_back(self):
        with transaction.atomic():
            publish("orders", {"item": "gone"})
            transaction.set_rollback(True)
        self.assert_is()

    def test_a_block_that_must_roll_back_takes_no_more(self):
        with self.assertRaises(transaction.TransactionManagementError), transaction.atomic():
            try:
                with transaction.atomic(savepoint=False):
                    raise ZeroDivisionError
            except ZeroDivisionError:
                publish("orders", {"item": "gone"})
        self.assert_is()

    def test_a_durable_block(self):
        with transaction.atomic(durable=True):
            publish("orders", {"item": "tea"})
        self.assertEqual(items_in(hub().log.read(self.before)), ["tea"])

    def test_a_transaction_that_the_app_manages_itself(self):
        transaction.set_autocommit(False)
        try:
            publish("orders", {"item": "gone"})
            transaction.rollback()
            publish("orders", {"item": "kept"})
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        hub().log.ring()
        self.assertEqual(items_in(hub().log.read(self.before)), ["kept"])

    def test_invalid_events_are_refused_before_the_query(self):
        with transaction.atomic(), self.assertNumQueries(0):
            with self.assertRaisesMessage(Exception, "channel"):
                publish("", "x")


class RolledBackTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        publish("orders", {"item": "earlier"})

    def post(self):
        before = hub().log.last_sequence()
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.post("/order", {"item": "tea"})
        self.assertEqual(len(callbacks), 1)
        self.assertEqual(items_in(uncommitted_events(hub(), connection)), ["earlier", "tea"])
        self.assertEqual(hub().log.last_sequence(), before)

    def test_once(self):
        self.post()

    def test_again(self):
        self.post()

    def test_a_view_that_raises(self):
        self.client.raise_request_exception = False
        self.client.post("/broken_order", {"item": "tea"})
        self.client.post("/half_order")
        self.assertEqual(items_in(uncommitted_events(hub(), connection)), ["earlier", "first", "fourth"])

    def test_a_stream_leaves_the_connection_of_the_test_open(self):
        for execute in (False, True):
            with self.captureOnCommitCallbacks(execute=execute):
                response = self.client.get("/order_events")
                self.assertEqual(response["Content-Type"], "text/event-stream; charset=utf-8")
            publish("orders", {"item": "tea"})
        self.assertEqual(items_in(uncommitted_events(hub(), connection)), ["earlier", "tea", "tea"])

    def test_a_type(self):
        publish("orders", "text", event="paid")
        event = uncommitted_events(hub(), connection)[-1]
        self.assertEqual(event, ("orders", "text", "paid"))


class NoDatabaseTest(SimpleTestCase):
    def test_it_is_refused_as_a_query_is(self):
        with self.assertRaisesMessage(AssertionError, "are not allowed in SimpleTestCase"):
            publish("orders", "x")
"""
