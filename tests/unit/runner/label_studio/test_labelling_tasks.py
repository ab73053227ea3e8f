import pytest

from runner.label_studio.labelling_tasks import inspect_picture
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
