"""metadata: what Ultralytics writes is read, everything else is refused with the key at fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.vision.metadata import ModelError, read

GOOD = {"task": "detect", "names": "{0: 'a', 1: 'b c'}", "stride": "32", "imgsz": "[320, 640]", "end2end": "False"}


def test_task_is_named_when_empty() -> None:
    with pytest.raises(ModelError, match="task is None in the model's metadata; expected 'detect'"):
        read({})


def test_read_as_written_when_complete() -> None:
    written = read(GOOD)
    assert (written.classes, written.input_hw, written.stride) == (("a", "b c"), (320, 640), 32)
    assert not written.end2end
    assert read({**GOOD, "end2end": "True"}).end2end


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "segment"}, "task is 'segment'.*expected 'detect'"),
        ({"names": "{0: 'a', 2: 'b'}"}, "names.*without gaps"),
        ({"names": "{}"}, "names.*without gaps"),
        ({"names": "['a', 'b']"}, "names.*without gaps"),
        ({"names": "{0: 'a', 1: 'a'}"}, "names.*different text for each class"),
        ({"names": "{0: 'a', 1: ''}"}, "names.*different text for each class"),
        ({"names": "{0: 'a', 1: 5}"}, "names.*different text for each class"),
        ({"names": "__import__('os').system('true')"}, "names.*no Python literal"),
        ({"names": "{0: 'a'"}, "names.*no Python literal"),
        ({"names": "(" * 5000}, "names.*no Python literal"),
        ({"names": "[[]," * 300_000}, "names.*no Python literal"),
        ({"stride": "0"}, "stride.*expected 1 whole number"),
        ({"stride": "'32'"}, "stride.*expected 1 whole number"),
        ({"imgsz": "[320]"}, "imgsz.*expected 2 whole number"),
        ({"imgsz": "[320, 320.0]"}, "imgsz.*expected 2 whole number"),
        ({"imgsz": "[320, True]"}, "imgsz.*expected 2 whole number"),
    ],
)
def test_refused_when_wrong(change: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read({**GOOD, **change})


@pytest.mark.parametrize("key", ["names", "stride", "imgsz"])
def test_refused_when_missing(key: str) -> None:
    with pytest.raises(ModelError, match=f"{key} is missing in the model's metadata; expected what Ultralytics"):
        read({name: value for name, value in GOOD.items() if name != key})


@given(
    st.sampled_from(["names", "stride", "imgsz"]), st.text() | st.builds(repr, st.recursive(st.integers(), st.lists))
)
def test_nothing_but_model_errors_when_hostile(key: str, text: str) -> None:
    try:
        read({**GOOD, key: text})
    except ModelError as error:
        assert key in str(error)
