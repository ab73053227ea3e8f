import pytest

from runner.label_studio.label_next import Parts
from runner.label_studio.labelling_tasks import by_usefulness, inspect_picture
from tests.support.pictures import encoded, gradient, turned


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (turned(6), ".jpg"),
        (encoded(gradient(), "PNG"), ".png"),
        (encoded(gradient(), "WEBP"), ".webp"),
        (encoded(gradient(), "AVIF"), ".avif"),
        (encoded(gradient(), "TIFF"), "TIFF"),
        (b"<html>log in</html>", "not a picture"),
    ],
)
def test_upright_size_and_suffix_are_known_or_why_a_browser_would_not_show_it(data: bytes, expected: str) -> None:
    info = inspect_picture(data)
    if isinstance(info, str):
        assert expected in info
    else:
        assert (info.size_px, info.suffix) == ((40, 30), expected)


def test_candidates_come_by_their_score_when_their_pictures_are_gone_or_damaged() -> None:
    candidates = [(name, Parts(share, 0, 0, 0, 0)) for name, share in (("gone", 0.1), ("damaged", 0.9), ("also", 0.5))]
    pictures = {"damaged": b"no picture"}
    found = list(by_usefulness(candidates, pictures.get, []))
    assert [name for name, _ in found] == ["damaged", "also", "gone"]
    assert {parts.diversity for _, parts in found} == {0.0}
