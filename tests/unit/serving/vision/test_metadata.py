import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.vision.letterbox import InputForm
from serving.vision.metadata import ModelError, form_metadata, read

FORM = form_metadata(InputForm("margin", "full"))
GOOD = {"task": "detect", "names": "{0: 'a', 1: 'b c'}", "stride": "32", "imgsz": "[320, 640]", "end2end": "False"}
WRONG = {
    "task": ["segment", "", None],
    "names": [
        *("{0: 'a', 2: 'b'}", "{}", "['a', 'b']", "{0: 'a', 1: 'a'}", "{0: 'a', 1: ''}", "{0: 'a', 1: 5}"),
        *("__import__('os').system('true')", "{0: 'a'", "(" * 5000, "[[]," * 300_000, None),
    ],
    "stride": ["0", "'32'", "", None],
    "imgsz": ["[320]", "[320, 320.0]", "[320, True]", "[]", None],
    "input_shape": ["", "rect", None],  # None: `decoding` is there without it
    "decoding": ["Full", None],
}


def test_read_as_written_when_complete() -> None:
    written = read(GOOD)
    assert (written.classes, written.input_hw, written.stride) == (("a", "b c"), (320, 640), 32)
    assert not written.end2end
    assert read({**GOOD, "end2end": "True"}).end2end
    assert read({**GOOD, "imgsz": "64"}).input_hw == (64, 64)
    assert read(GOOD).form is None
    assert read(GOOD | FORM).form == InputForm("margin", "full")


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in WRONG.items() for text in texts])
def test_refused_when_wrong_or_missing(key: str, text: str | None) -> None:
    metadata = {name: value for name, value in {**GOOD, **FORM, key: text}.items() if value is not None}
    with pytest.raises(ModelError, match=f"^{key} .* is {'None' if text is None else ''}") as caught:
        read(metadata)
    assert len(str(caught.value)) < 300


@given(
    st.sampled_from(["names", "stride", "imgsz"]), st.text() | st.builds(repr, st.recursive(st.integers(), st.lists))
)
def test_nothing_but_model_errors_when_hostile(key: str, text: str) -> None:
    try:
        read({**GOOD, key: text})
    except ModelError as error:
        assert key in str(error)
