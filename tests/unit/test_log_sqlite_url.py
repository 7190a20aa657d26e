"""URLs of SQLite logs: which file each opens. A URL that may open another file is refused."""

import contextlib
import io
import os
import unittest
from pathlib import Path

from sse_threaded import Hub, LogUnusable, open_log
from sse_threaded.cli import main
from sse_threaded.log.sqlite.url import parse_url, url_of
from tests.support import temporary_directory

# URLs that are refused, and words of the error that say what to write instead.
REFUSED = (
    # In SQLite's memory.
    ("sqlite:///:memory:", "memory://"),
    ("sqlite:///%3Amemory%3A", "memory://"),
    ("sqlite:///file::memory:", "memory://"),
    ("sqlite:///file::memory:?cache=shared", "memory://"),
    ("sqlite:///file:log?mode=memory&cache=shared", "memory://"),
    ("sqlite:///log.db?mode=memory", "memory://"),
    ("sqlite:///file:/var/log.db", "memory://"),
    ("sqlite://", "memory://"),
    ("sqlite://:memory:", "memory://"),
    # Characters that mean something else in a URL.
    ("sqlite:///a b#c?.db", "%23"),
    ("sqlite:///a#b.db", "%23"),
    ("sqlite:///log.db#", "%23"),
    ("sqlite:///log.db?synchronous=normal#x", "%3F"),
    ("sqlite:///a?b.db", "%3F"),
    ("sqlite:///log.db?", "%3F"),
    ("sqlite:///a?", "%3F"),
    ("sqlite:///100%.db", "%25"),
    ("sqlite:///50%zz.db", "%25"),
    ("sqlite:///log.db%", "%25"),
    ("sqlite:///a\tb.db", "%-escapes"),
    ("sqlite:///a\nb.db", "%-escapes"),
    ("sqlite:///log.db\n", "%-escapes"),
    ("sqlite:///log.db ", "%20"),
    ("sqlite:/// log.db", "%20"),
    ("sqlite:///a\0b.db", "%-escapes"),
    ("sqlite:///a%00b.db", "no file"),
    ("sqlite:///\ud800.db", "no file"),
    # Options.
    ("sqlite:///log.db?synchronous", "synchronous=full"),
    ("sqlite:///log.db?synchronous=off", "synchronous=full"),
    ("sqlite:///log.db?synchronous=full&synchronous=normal", "synchronous=full"),
    ("sqlite:///log.db?synchronous=full&timeout=5", "synchronous=full"),
    ("sqlite:///log.db?colour=red", "synchronous=full"),
    # No file.
    ("sqlite:///", "sqlite:///relative"),
    ("sqlite:////", "sqlite:///relative"),
    ("sqlite:///folder/", "sqlite:///relative"),
    ("sqlite:///folder%2F", "sqlite:///relative"),
    ("sqlite:///.", "sqlite:///relative"),
    ("sqlite:///folder/..", "sqlite:///relative"),
    ("sqlite:///folder/.", "sqlite:///relative"),
    # Hosts, users, other systems, other programs' habits.
    ("sqlite://log.db", "three slashes"),
    ("sqlite:log.db", "three slashes"),
    ("sqlite:/log.db", "three slashes"),
    ("sqlite://host/log.db", "three slashes"),
    ("sqlite://user:secret@host/log.db", "three slashes"),
    ("sqlite:///user:secret@host/log.db", "no user"),
    ("sqlite:///C:/data/log.db", "Windows"),
    ("sqlite:////C:/data/log.db", "Windows"),
    (r"sqlite:///C:\data\log.db", "Windows"),
    (r"sqlite:///\\server\log.db", "Windows"),
    ("sqlite:///~/log.db", "expanduser"),
)

# Unusual names of files, all valid.
NAMES = (
    "log.db",
    "a b.db",
    "a#b?c.db",
    "100%.db",
    "a%20b.db",
    "%41.db",
    "ü🎉.db",
    "a:b@c.db",
    "C:log.db",
    "back\\slash.db",
    "new\nline.db",
    " space .db ",
    "~backup.db",
    "a;b&c=d+e.db",
    "...",
    os.fsdecode(b"\xff.db"),
)


class RefusedTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(os.chdir, os.getcwd())
        self.folder = temporary_directory(self)
        os.chdir(self.folder)

    def test_what_would_open_another_file_is_refused_with_what_to_write_and_makes_none(self):
        for url, words in REFUSED:
            with self.subTest(url=url), self.assertRaises(LogUnusable) as caught:
                open_log(url)
            text = str(caught.exception)
            with self.subTest(url=url):
                self.assertIn(words, text)
                self.assertNotIn("secret", text)
                self.assertNotIn("\n", text)
                self.assertEqual(os.listdir(), [])

    def test_a_folder_that_is_there(self):
        (self.folder / "folder").mkdir()
        for url in ("sqlite:///folder", Path("folder"), self.folder):
            with self.subTest(url=url), self.assertRaisesRegex(LogUnusable, "is a directory; name a file in it"):
                open_log(url)

    def test_a_command_refuses_the_same(self):
        for url, words in (
            ("sqlite:///:memory:", "memory://"),
            ("sqlite:///a#b", "%23"),
            ("sqlite://x.db", "three"),
        ):
            with self.subTest(url=url):
                printed, errors = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
                    self.assertEqual(main(["--url", url, "publish", "a", "x"]), 1)
                self.assertEqual(printed.getvalue(), "")
                self.assertIn(words, errors.getvalue())
                self.assertEqual(os.listdir(), [])


class FileTest(unittest.TestCase):
    def test_every_name_makes_the_round_trip(self):
        for name in NAMES:
            for path in (f"/folder/{name}", name):
                with self.subTest(path=path):
                    self.assertEqual(parse_url(url_of(path)), (os.path.abspath(path), "full"))

    def test_a_path_is_taken_as_it_is(self):
        folder = temporary_directory(self)
        for name in NAMES:
            with self.subTest(name=name), Hub(folder / name) as hub:
                hub.publish("a", "x")
                self.assertTrue((folder / name).is_file())
                with Hub(hub.url) as again:
                    self.assertEqual(again.log.epoch, hub.log.epoch)

    def test_a_space_and_other_letters_need_no_escape(self):
        for raw, path in (
            ("my project/ü.db", "my project/ü.db"),
            ("my%20project/%C3%BC.db", "my project/ü.db"),
            ("/srv/me@home/log.db", "/srv/me@home/log.db"),
            ("log.db?synchronous=normal", "log.db"),
            ("log.db?synchronous=FULL", "log.db"),
            ("%ff.db", os.fsdecode(b"\xff.db")),
        ):
            with self.subTest(raw=raw):
                self.assertEqual(parse_url(f"sqlite:///{raw}")[0], os.path.abspath(path))


if __name__ == "__main__":
    unittest.main()
