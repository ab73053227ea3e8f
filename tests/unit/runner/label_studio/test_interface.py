"""The labelling configuration offers the class list, whatever the names are."""

from __future__ import annotations

import re

from runner.label_studio.interface import difference, labelling_configuration, labels_in

ODD = ["airplane", 'a "quoted" <name> & more', "Hubschrauber ü", "直升机"]


def test_the_labels_are_the_classes_when_names_are_odd() -> None:
    assert labels_in(labelling_configuration(ODD, "box")) == ODD
    assert labels_in("<View />") == labels_in("no XML") == labels_in("") == []


def test_colours_stay_when_classes_are_added() -> None:
    colours = [
        re.findall("#[0-9a-f]{6}", labelling_configuration([str(n) for n in range(count)], "box")) for count in (2, 40)
    ]
    assert colours[1][:2] == colours[0]
    assert len(set(colours[1])) == 40


def test_boxes_cannot_be_turned_when_turned_ones_are_refused() -> None:
    assert 'canRotate="false"' in labelling_configuration(ODD, "refuse")
    assert 'canRotate="true"' in labelling_configuration(ODD, "box")


def test_nothing_differs_when_only_the_writing_does() -> None:
    ours = labelling_configuration(["a", "b"], "box")
    theirs = re.sub(r"\n\s*", "\n\n", ours).replace(' zoom="true"', "").replace("<Image", '<Image zoom="true"')
    assert theirs != ours
    assert difference(theirs, ours) == []


def test_the_lines_are_shown_when_a_label_is_new() -> None:
    lines = difference(labelling_configuration(["a"], "box"), labelling_configuration(["a", "b"], "box"))
    assert len(lines) == 1 and re.fullmatch(r'\+     <Label background="#[0-9a-f]{6}" value="b" />', lines[0])
    assert difference("no XML", "<View />") == ["- no XML", "+ <View />"]
