"""The RQ job of docs/publishing.md, in a real worker; its queue is in redis-server."""

from __future__ import annotations

import sys
import unittest

from tests.harness.redis_server import RedisServer
from tests.live.test_publishing_page import REPORT, PageCase, events_of, python_block
from tests.support import enter, missing


class RQTest(PageCase):
    def test_an_rq_job_in_a_real_worker(self) -> None:
        try:
            import rq  # noqa: F401, PLC0415  # it may not be installed
        except ImportError:
            missing("rq (pip install '.[test]')")
        redis = enter(self, RedisServer())
        shop = self.folder / "shop"
        shop.mkdir()
        (shop / "__init__.py").touch()
        (shop / "jobs.py").write_text(python_block("# shop/jobs.py"))
        address = f"redis://{redis.host}:{redis.port}/1"
        (self.folder / "enqueue.py").write_text(
            "import redis, rq\n"
            f"queue = rq.Queue(connection=redis.Redis.from_url({address!r}))\n"
            'queue.enqueue("shop.jobs.report", 7)\n'
        )
        for worker in ("rq.Worker", "rq.SimpleWorker"):
            with self.subTest(worker):
                before = len(events_of(self.hub))
                self.run_shell(f'"{sys.executable}" enqueue.py')
                self.run_shell(
                    f'"{sys.executable}" -m rq.cli worker --burst --url {address} --worker-class {worker}'
                )
                self.assertEqual(events_of(self.hub)[before:], [REPORT[1], REPORT[3]])


if __name__ == "__main__":
    unittest.main()
