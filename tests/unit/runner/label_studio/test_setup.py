import re
from xml.etree import ElementTree

from runner.label_studio.setup import difference, label_config

ODD = ["airplane", 'a "quoted" <name> & more', "Hubschrauber ü", "直升机"]


def test_the_labels_are_the_classes_when_names_are_odd() -> None:
    labels = ElementTree.fromstring(label_config(ODD, "box")).iter("Label")
    assert [label.get("value") for label in labels] == ODD


def test_colours_stay_when_classes_are_added() -> None:
    few, many = (re.findall("#[0-9a-f]{6}", label_config([str(n) for n in range(count)], "box")) for count in (2, 40))
    assert many[:2] == few and len(set(many)) == 40


def test_boxes_cannot_be_turned_when_turned_ones_are_refused() -> None:
    assert 'canRotate="false"' in label_config(ODD, "refuse")
    assert 'canRotate="true"' in label_config(ODD, "box")


def test_nothing_differs_when_only_the_formatting_does() -> None:
    ours = label_config(["a", "b"], "box")
    theirs = re.sub(r"\n\s*", "\n\n", ours).replace(' zoom="true"', "").replace("<Image", '<Image zoom="true"')
    assert theirs != ours
    assert difference(theirs, ours) == []


def test_the_lines_are_shown_when_a_label_is_new() -> None:
    (line,) = difference(label_config(["a"], "box"), label_config(["a", "b"], "box"))
    assert re.fullmatch(r'\+     <Label background="#[0-9a-f]{6}" value="b" />', line)
    assert difference("no XML", "<View />") == ["- no XML", "+ <View />"]
