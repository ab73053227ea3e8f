import base64
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from serving.intake.access import Keys
from serving.settings import Settings


def fits(keys: Keys, key: str) -> bool:
    basic = base64.b64encode(f"label-studio:{key}".encode()).decode()
    sent = ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Basic {basic}"})
    return all([keys.fit(Headers(headers)) for headers in sent])


def test_old_and_new_key_fit_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    keys = Keys(Settings(api_key="given", api_key_file=str(file)))  # type: ignore[arg-type]
    assert [fits(keys, key) for key in ("given", "old", "new", "", "old\n")] == [True, True, False, False, False]
    file.write_text("new-and-longer\nold\r\n\n")
    assert [fits(keys, key) for key in ("given", "old", "new-and-longer")] == [True] * 3
    link = tmp_path / "next"  # as a mounted Secret changes
    link.write_text("new\n")
    link.replace(file)
    assert [fits(keys, key) for key in ("given", "old", "new")] == [True, False, True]


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_nobody_fits_when_the_file_has_no_key(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    keys = Keys(Settings(api_key_file=str(file)))
    assert keys.on
    assert not fits(keys, "") and not fits(keys, "x")


def test_last_keys_fit_when_the_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a")
    keys = Keys(Settings(api_key_file=str(file)))
    file.unlink()
    assert fits(keys, "a") and not fits(keys, "b")


def test_the_given_key_alone_fits_when_the_file_beside_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a Secret's optional key is mounted: the former one, while callers change."""
    file = tmp_path / "former"
    keys = Keys(Settings(api_key="given", api_key_file=str(file)))  # type: ignore[arg-type]
    assert [fits(keys, key) for key in ("given", "old")] == [True, False]
    file.write_text("old")
    assert [fits(keys, key) for key in ("given", "old")] == [True, True]
    file.unlink()
    assert [fits(keys, key) for key in ("given", "old")] == [True, False]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_off_when_none_is_set() -> None:
    assert not Keys(Settings()).on


@pytest.mark.parametrize(
    "value", ["Basic", "Basic :", "Basic \u00fc", "Basic Z2l2ZW4=", "Basic Z2l2ZW46", "Basic Z2l2"]
)
def test_nobody_fits_when_basic_authentication_is_damaged(value: str) -> None:
    assert not Keys(Settings(api_key="given")).fit(Headers({"Authorization": value}))  # type: ignore[arg-type]


def test_annotators_have_a_name_and_their_keys_fit_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    keys = Keys(Settings(api_key="given", annotator_key_file=str(file)))  # type: ignore[arg-type]
    sent = [Headers({"X-API-Key": key}) for key in ("a1", "b2", "given", "c3", "")]
    assert [keys.annotator(each) for each in sent] == [None] * 5  # there is no file yet
    file.write_text("anna a1\r\n\nben  b2\nc3\nd e f\n")
    assert [keys.annotator(each) for each in sent] == ["anna", "ben", None, None, None]
    assert [fits(keys, key) for key in ("a1", "b2", "given", "c3", "anna")] == [True, True, True, False, False]
    wrong = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(wrong) == 2 and "line 4" in wrong[0] and "line 5" in wrong[1] and "c3" not in "".join(wrong)
    file.unlink()
    assert keys.annotator(sent[0]) is None and not fits(keys, "a1")


def test_annotators_keys_close_nothing(tmp_path: Path) -> None:
    assert not Keys(Settings(annotator_key_file=str(tmp_path / "keys"))).on
