import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.vision.letterbox import InputForm
from serving.vision.metadata import Known, ModelError, form_metadata, read

FORM = form_metadata(InputForm("margin", "full"))
GOOD = {"task": "detect", "names": "{0: 'a', 1: 'b c'}", "stride": "32", "imgsz": "[320, 640]", "end2end": "False"}
WRONG = {
    "task": ["segment", "", None],
    "names": [
        *("{0: 'a', 2: 'b'}", "{}", "[]", "{0: 'a', 1: None}", "{'x': 'a'}", "{0: 'a', '0': 'b', 1: ['c']}"),
        *("__import__('os').system('true')", "{0: 'a'", "(" * 5000, "[[]," * 300_000, None),
        "{0: '\\ud800', 1: 'b'}",  # half of a pair: no answer could name it
    ],
    "stride": ["0", "'32'", "", "1000000", None],
    "imgsz": ["[320]", "[320, 320.0]", "[320, True]", "[]", "[320, 100000]", None],
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


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("['a', 'b c']", ("a", "b c")),
        ("('a', 'b')", ("a", "b")),
        ('{"0": "a", "1": "b"}', ("a", "b")),
        ("{0: 'a', 1: ''}", ("a", "class 1")),
        ("['a', 'a', 'a']", ("a", "a (1)", "a (2)")),
        ("[7, 'a', 1]", ("7", "a", "1")),
    ],
)
def test_names_read_however_they_are_written(names: str, classes: tuple[str, ...]) -> None:
    assert read({**GOOD, "names": names}).classes == classes


def test_taken_from_what_is_known_when_the_file_says_nothing() -> None:
    written = read({}, Known(["a", "b"], (64, 96)))
    assert (written.classes, written.input_hw, written.stride) == (("a", "b"), (64, 96), 64)
    assert read(GOOD, Known(["x"], (64, 96))).classes == ("a", "b c")
    for known in (Known(), Known(["a"]), Known(None, (64, 64))):
        with pytest.raises(ModelError):
            read({}, known)
    with pytest.raises(ModelError, match="task"):
        read({"task": "segment"}, Known(["a"], (64, 64)))


@pytest.mark.parametrize(
    "change",
    [{"head": "RTDETRDecoder"}, {"description": "Ultralytics RT-DETR-l model"}, {"description": "rtdetr-x.pt"}],
)
def test_refused_when_it_is_rt_detr(change: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="RT-DETR is not supported"):
        read(GOOD | change)


@pytest.mark.parametrize(
    ("args", "lowest"),
    [
        ("{'nms': True, 'conf': 0.4}", 0.4),
        ("{'nms': True}", 0.25),
        ("{'nms': False, 'conf': 0.4}", 0),
        ("{'nms': True, 'conf': None}", 0.25),
        ("[", 0),
    ],
)
def test_lowest_confidence_known_when_suppression_is_in_the_graph(args: str, lowest: float) -> None:
    assert read({**GOOD, "args": args}).lowest == lowest


@given(
    st.sampled_from(["names", "stride", "imgsz"]), st.text() | st.builds(repr, st.recursive(st.integers(), st.lists))
)
def test_nothing_but_model_errors_when_hostile(key: str, text: str) -> None:
    try:
        read({**GOOD, key: text})
    except ModelError as error:
        assert key in str(error)
