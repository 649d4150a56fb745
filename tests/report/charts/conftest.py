"""Reading charts back."""

import xml.etree.ElementTree as ET

import pytest


class Drawing:
    """The elements of a chart."""

    def __init__(self, markup):
        self.root = ET.fromstring(str(markup))

    def marks(self, tag, kind):
        """Elements whose classes hold all of ``kind``."""
        return [e for e in self.root.iter(tag) if set(kind.split()) <= set(e.get("class", "").split())]

    def numbers(self, element, *names):
        return tuple(float(element.get(name)) for name in names)

    def labels(self, kind):
        """Text and place of each label."""
        return {e.text: (float(e.get("x")), float(e.get("y"))) for e in self.marks("text", kind)}

    def inside(self):
        """Whether every coordinate lies in the picture."""
        width, height = (float(value) for value in self.root.get("viewBox").split()[2:])
        across = [float(e.get(n)) for e in self.root.iter() for n in ("x", "x1", "x2", "cx") if e.get(n)]
        down = [float(e.get(n)) for e in self.root.iter() for n in ("y", "y1", "y2", "cy") if e.get(n)]
        return min(across) >= 0 and max(across) <= width and min(down) >= 0 and max(down) <= height


@pytest.fixture
def read():
    return Drawing
