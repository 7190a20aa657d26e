"""The three ways in docs/design.md name the functions that run in a real worker, in their order."""

import difflib
import unittest

from tests.harness import three_ways

_RENEW = "renew the lists by: python -m tests.harness.three_ways --write; then mend their words"


class ThreeWaysTest(unittest.TestCase):
    def test_the_lists_say_what_runs(self):
        text = three_ways.DESIGN.read_text(encoding="utf-8")
        sections = {way: three_ways.section(text, way) for way in three_ways.WAYS}
        written = {way: three_ways.written_names(part) for way, part in sections.items()}

        def names(ways):
            return {way: [function.name for _, function in steps] for way, steps in ways.items()}

        running = names(three_ways.record())
        if running != written:  # a timer may have ended meanwhile
            running = names(three_ways.measure())
        for way in three_ways.WAYS:
            with self.subTest(way=way):
                lines = difflib.unified_diff(
                    written[way], running[way], "docs/design.md", "what runs", lineterm="", n=1
                )
                difference = "\n".join(lines)
                self.assertEqual(written[way], running[way], f"{_RENEW}\n{difference}")
                self.assertIn(f"\n{three_ways.summary(running[way])}.\n", sections[way], _RENEW)


class RenewalTest(unittest.TestCase):
    def step(self, name, purpose=""):
        return "pump", three_ways.Function(f"pump.py {name}", purpose)

    def test_words_stay_with_their_functions(self):
        written = "1. `pump.py f`, `pump.py g`: go on.\n2. `pump.py h`: ends.\n"
        steps = [self.step("f"), self.step("g"), self.step("i", "Begins"), self.step("h")]
        renewed = three_ways.as_markdown(steps, written)
        self.assertIn(
            "1. `pump.py f`, `pump.py g`: go on.\n2. `pump.py i`: Begins.\n3. `pump.py h`: ends.", renewed
        )
        self.assertEqual(three_ways.written_names(renewed), ["pump.py f", "pump.py g", "pump.py i", "pump.py h"])

    def test_a_step_whose_functions_part_is_made_anew(self):
        written = "1. `pump.py f`, `pump.py g`: go on.\n"
        renewed = three_ways.as_markdown([self.step("g", "Sends"), self.step("f", "Reads")], written)
        self.assertIn("1. `pump.py g`: Sends.\n2. `pump.py f`: Reads.\n", renewed)


if __name__ == "__main__":
    unittest.main()
