"""The files of live.js: made from it, small, typed, and its parser held to the table of the format."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import unittest
from pathlib import Path

from sse_threaded import __version__
from sse_threaded.browser import script
from tests.harness import live_script
from tests.support import ROOT, missing, temporary_directory
from tests.unit.test_event_stream_format import SIZES, STREAMS

ONCE = True  # it says the same under every Python
NPM = True

MOST_BYTES = 6 * 1024

# Streams that only a limit of the Python decoder makes so: JavaScript's limit is nine digits.
OTHER_LIMITS = {"a retry has 18 digits at most"}

# Reads [wire, cuts] and writes what the parser makes of each piece.
PARSE = """
import { readFileSync } from "node:fs";
const { EventStreamParser } = await import(process.argv[1]);
const read = (wire, ends) => {
  const parser = new EventStreamParser();
  const decoder = new TextDecoder();
  const events = [];
  let begin = 0;
  for (const end of ends) {
    events.push(...parser.feed(decoder.decode(wire.subarray(begin, end), { stream: true })));
    begin = end;
  }
  return [events.map(({ type, data, id }) => [type, data, id]), parser.id, parser.retry ?? null];
};
const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = asked.map(([wire, cuts]) => cuts.map((ends) => read(Buffer.from(wire, "base64"), ends)));
process.stdout.write(JSON.stringify(answers));
"""

# An app in TypeScript that uses all of it.
TYPED = """
import { Live, type LiveEvent, type State } from "./live.js";

const live = new Live(new URL("https://app.example/events"), {
  lastEventId: "abc-1",
  key: "7",
  ticket: async (channels: string[]): Promise<string> => channels.join(),
  times: { hidden: Infinity },
});
const leave: () => void = live.subscribe("orders", (event: LiveEvent) => console.log(event.data.length), {
  lastEventId: "abc-2",
});
const state: State = live.state;
live.addEventListener("state", (event) => console.log((event as CustomEvent<{ state: State }>).detail.state));
console.log(state === "live", live.detail.length, live.leads);
live.retry();
leave();
live.close();
"""
WRONG = """
import { Live } from "./live.js";
new Live("/events").subscribe(7, () => {});
"""


class FilesTest(unittest.TestCase):
    maxDiff = None

    def test_the_small_file_is_made_from_the_source(self) -> None:
        how = "python -m tests.harness.live_script"
        self.assertEqual(live_script.SMALL.read_text(encoding="utf-8"), live_script.make_small(), how)

    def test_the_types_are_made_from_the_source(self) -> None:
        how = "python -m tests.harness.live_script"
        self.assertEqual(live_script.TYPES.read_text(encoding="utf-8"), live_script.make_types(), how)

    def test_it_has_at_most_six_kilobytes(self) -> None:
        self.assertLessEqual(len(gzip.compress(script().data, mtime=0)), MOST_BYTES)

    def test_the_package_for_npm(self) -> None:
        package = json.loads(live_script.FOLDER.joinpath("package.json").read_text(encoding="utf-8"))
        self.assertEqual(package["version"], __version__)
        for name in (*package["files"], package["types"], *package["exports"]["."].values()):
            self.assertTrue((live_script.FOLDER / name).is_file(), name)
        packed = subprocess.run(
            ["npm", "pack", "--dry-run", "--json", "--offline"],
            cwd=live_script.FOLDER,
            capture_output=True,
            timeout=120,
            check=True,
        )
        files = {each["path"] for each in json.loads(packed.stdout)[0]["files"]}
        self.assertEqual(files, {"live.js", "live.d.ts", "package.json"})

    def test_the_page_names_the_package(self) -> None:
        page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
        package = json.loads((live_script.FOLDER / "package.json").read_text(encoding="utf-8"))
        self.assertIn(f'import {{ Live }} from "{package["name"]}";', page)

    def test_an_app_in_typescript(self) -> None:
        folder = temporary_directory(self)
        for path in (live_script.SOURCE, live_script.TYPES):
            (folder / path.name).write_bytes(path.read_bytes())
        self.assertEqual(self.type_errors(folder, TYPED), "")
        self.assertIn("Argument of type 'number' is not assignable", self.type_errors(folder, WRONG))

    def type_errors(self, folder: Path, source: str) -> str:
        (folder / "app.ts").write_text(source, encoding="utf-8")
        program = live_script.MODULES / "typescript" / "bin" / "tsc"
        if not program.exists():
            missing(f"{program} (bash tests/run installs it)")
        command = ["node", str(program), "--strict", "--noEmit", "--module", "nodenext"]
        command += ["--target", "es2022", "--lib", "es2022,dom,dom.iterable", "app.ts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout


class ParserTest(unittest.TestCase):
    """The parser has of each stream what the table says, however it is cut."""

    def test_the_table_of_the_format_byte_by_byte(self) -> None:
        streams = [stream for stream in STREAMS if stream.name not in OTHER_LIMITS]
        self.assertGreater(len(streams), 80)
        asked = []
        for stream in streams:
            length = len(stream.wire)
            cuts = [[*range(size, length, size), length] for size in SIZES]
            cuts += [[cut, cut, length] for cut in range(0, length + 1, 1 if length < 1000 else 97)]
            asked.append((base64.b64encode(stream.wire).decode(), cuts))
        command = ["node", "--input-type=module", "-e", PARSE, live_script.SOURCE.as_uri()]
        done = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for stream, (_, cuts), answers in zip(streams, asked, json.loads(done.stdout), strict=True):
            events = [[event.event, event.data, event.last_event_id] for event in stream.events]
            for ends, answer in zip(cuts, answers, strict=True):
                with self.subTest(stream.name, ends=ends[:4]):
                    self.assertEqual(answer, [events, stream.last_event_id, stream.retry])


if __name__ == "__main__":
    unittest.main()
