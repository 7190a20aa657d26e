"""A new log is announced once, with its absolute path: a relative path may have named the wrong file."""

import contextlib
import sqlite3
import unittest

from sse_threaded import Hub, open_log
from tests.harness.warm_python import run_python
from tests.support import sqlite_url, temporary_directory

SCRIPT = "from sse_threaded import Hub; print(Hub(sys.argv[1]).publish('orders', 'x'))"
COMMAND = "from sse_threaded.cli import main; sys.exit(main())"


def run(code, *arguments, cwd):
    before = f"import os, sys; os.environ.pop('SSE_THREADED_URL', None); os.chdir({str(cwd)!r})\n"
    return run_python(before + code, *arguments)


class NewLogTest(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_directory(self)

    def test_it_is_announced_once(self):
        url = sqlite_url(self.folder)
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            open_log(url).close()
        self.assertEqual(len(logs.output), 1)
        self.assertIn(f"made a new log in {str(self.folder / 'log.db')!r}", logs.output[0])
        with self.assertNoLogs("sse_threaded", "WARNING"):
            open_log(url).close()
            with Hub(self.folder / "log.db") as hub:
                hub.publish("a", "x")

    def test_in_an_apps_own_file_too(self):
        with contextlib.closing(sqlite3.connect(self.folder / "app.db")) as mine:
            mine.execute("CREATE TABLE orders (item)")
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            open_log(self.folder / "app.db").close()
        self.assertIn(str(self.folder / "app.db"), logs.output[0])

    def test_a_log_in_memory_is_not(self):
        with self.assertNoLogs("sse_threaded", "WARNING"), Hub() as hub:
            hub.publish("a", "x")

    def test_a_script_in_another_directory_says_so_without_any_logging_set_up(self):
        app, cron = self.folder / "app", self.folder / "cron"
        app.mkdir()
        cron.mkdir()
        open_log(app / "events.db").close()
        same = run(SCRIPT, "sqlite:///events.db", cwd=app)
        self.assertEqual((same.returncode, same.stderr), (0, ""))
        other = run(SCRIPT, "sqlite:///events.db", cwd=cron)
        relative = "the URL is relative, so each working directory has its own log"
        self.assertIn(f"made a new log in {str(cron / 'events.db')!r}; {relative}", other.stderr)
        self.assertEqual(len(other.stderr.splitlines()), 1)
        self.assertRegex(other.stdout, r"\A[a-z]{6}-1\n\Z")

    def test_the_command_says_so_on_standard_error(self):
        (self.folder / "empty.db").touch()
        done = run(COMMAND, "--url", "sqlite:///empty.db", "publish", "orders", "x", cwd=self.folder)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"\A[a-z]{6}-1\n\Z")
        self.assertIn(f"made a new log in {str(self.folder / 'empty.db')!r}", done.stderr)

    def test_the_command_names_the_file_that_is_not_there(self):
        for command in (["publish", "orders", "x"], ["listen", "orders"]):
            with self.subTest(command):
                done = run(COMMAND, *command, cwd=self.folder)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(str(self.folder / "sse_threaded.db"), done.stderr)
                self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
