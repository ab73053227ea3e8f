"""models: the versions of the store, or the reason why there are none."""

from pathlib import Path

import pytest

from runner.errors import ObjectError
from runner.release.models import list_models
from runner.store import open_store
from tests.support.trained import Trained


def test_the_models_that_exist_are_named_when_another_is_asked_for(tmp_path: Path) -> None:
    trained = Trained(tmp_path / "project")
    store = open_store(trained.folder)
    assert list_models(trained.folder, store) == list_models(trained.folder, store, "kites") == []
    trained.judge()
    trained.publish()
    (entry,) = list_models(trained.folder, store, "flyingthings")
    assert (entry["model"], entry["version"]) == ("flyingthings", 1)
    with pytest.raises(ObjectError, match=r"kites.*flyingthings"):
        list_models(trained.folder, store, "kites")
