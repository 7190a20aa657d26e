"""docs/rooms.svg shows the rooms and imports that the sources have."""

import unittest
from xml.etree import ElementTree

from tests.harness import rooms_diagram

ONCE = True  # it says the same under every Python

_RENEW = "draw it anew: python -m tests.harness.rooms_diagram"


class RoomsDiagramTest(unittest.TestCase):
    def test_the_picture_is_what_the_command_draws_now(self):
        self.assertEqual(rooms_diagram.PICTURE.read_text(encoding="utf-8"), rooms_diagram.drawing(), _RENEW)

    def test_it_is_well_formed_and_names_every_room(self):
        picture = ElementTree.fromstring(rooms_diagram.drawing())
        names = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
        self.assertEqual({name.rpartition("/")[2] for name in rooms_diagram.ROOMS} - names, set())

    def test_every_import_is_an_arrow_or_implied_by_arrows(self):
        arrows = rooms_diagram.arrows()

        def reached(name):
            targets = {target for here, target in arrows if here == name}
            return targets.union(*map(reached, targets))

        for name, targets in rooms_diagram.imports().items():
            outer = rooms_diagram.ROOMS[name].inside or name
            for target in targets:
                with self.subTest(name=name, imports=target):
                    self.assertIn(rooms_diagram.ROOMS[target].inside or target, {outer, *reached(outer)})


if __name__ == "__main__":
    unittest.main()
