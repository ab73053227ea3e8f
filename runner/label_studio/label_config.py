"""Label Studio's labelling configuration: the picture, and a rectangle label with its own colour for each class.

Format: https://labelstud.io/tags/rectanglelabels
"""

import colorsys
import difflib
from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree

from runner.label_studio.regions import FROM_NAME, TO_NAME

_GOLDEN = 0.6180339887  # golden-ratio step of the hue: each is far from those before it


def label_config(classes: Sequence[str], rotated: Literal["box", "refuse"]) -> str:
    """Return the configuration for classes in id order, as XML; the colour of a class depends only on its id.

    With `refuse`, the editor has no handle to turn a box.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": TO_NAME, "value": "$image", "zoom": "true", "zoomControl": "true"})
    can_rotate = "true" if rotated == "box" else "false"
    attributes = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "2", "canRotate": can_rotate}
    labels = ElementTree.SubElement(view, "RectangleLabels", attributes)
    for number, name in enumerate(classes):
        rgb = colorsys.hsv_to_rgb((0.58 + number * _GOLDEN) % 1, 0.85, 0.9)
        colour = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
        ElementTree.SubElement(labels, "Label", {"value": name, "background": colour})
    return _format(view)


def difference(found: str, wanted: str) -> list[str]:
    """Return the differing lines of two configurations, `-` found and `+` wanted; empty when they are equivalent."""
    lines = difflib.ndiff(_lines(found), _lines(wanted))
    return [line.rstrip() for line in lines if line.startswith(("- ", "+ "))]


def _lines(config: str) -> list[str]:
    try:
        return _format(ElementTree.fromstring(config)).splitlines()
    except ElementTree.ParseError:
        return config.splitlines()


def _format(view: ElementTree.Element) -> str:
    for element in view.iter():
        element.attrib = dict(sorted(element.attrib.items()))
        element.text = element.tail = None
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")
