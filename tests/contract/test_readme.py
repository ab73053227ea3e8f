import re

from tests.conftest import PROJECT


def test_every_place_exists_when_the_map_names_it() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = text.partition("| to add… | open |")[2].partition("\n\n")[0].splitlines()[2:]
    places = {row: [each for each in re.findall(r"`([^`]+)`", row) if "/" in each] for row in rows}
    assert all(places.values())
    assert [each for found in places.values() for each in found if not (PROJECT / each).exists()] == []
