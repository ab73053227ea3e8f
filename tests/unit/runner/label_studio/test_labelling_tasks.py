"""Properties of pictures for tasks: size, suffix, and the formats that browsers show."""

import pytest

from runner.label_studio.labelling_tasks import inspect_picture
from tests.support.pictures import encoded, gradient, turned


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (turned(6), ".jpg"),
        (encoded(gradient(), "PNG"), ".png"),
        (encoded(gradient(), "WEBP"), ".webp"),
        (encoded(gradient(), "AVIF"), ".avif"),
    ],
)
def test_the_size_is_upright_when_a_browser_shows_the_picture(data: bytes, suffix: str) -> None:
    info = inspect_picture(data)
    assert not isinstance(info, str) and (info.size_px, info.suffix) == ((40, 30), suffix)


@pytest.mark.parametrize(
    ("data", "reason"), [(encoded(gradient(), "TIFF"), "TIFF"), (b"<html>log in</html>", "not a picture")]
)
def test_the_reason_is_given_when_browsers_would_not_show_it(data: bytes, reason: str) -> None:
    info = inspect_picture(data)
    assert isinstance(info, str) and reason in info
