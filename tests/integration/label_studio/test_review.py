"""Label suspects become tasks of origin `review`; what annotators correct there is pulled as any other annotation."""

import re
from pathlib import Path

import pytest

from runner.__main__ import main
from runner.dataset.add import add_dataset
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.regions import LabelledBox
from runner.label_studio.setup import set_up
from tests.support.annotating import Bench
from tests.support.trained import LEFT, RIGHT, Folders, seeing
from tests.support.trees import write_tree

AT = {"airplane": (0.25, 0.5, 0.25, 0.25), "helicopter": (0.75, 0.5, 0.25, 0.25)}
RIGHT_BOXES = [LabelledBox(name, at) for name, at in AT.items()]


@pytest.fixture
def judged(bench: Bench, tmp_path: Path) -> Bench:
    """A trained project whose dataset lacks a helicopter in one picture, and has a wrong class in another."""
    bench.set(presets={"dataset": "store"})
    folders = Folders(bench.project / "artifacts", seeing(), bench.project / ".work")
    for number in range(20):
        folders.add("test", f"right{number}", f"0 {LEFT}\n1 {RIGHT}\n", brightness=200 + number)
    folders.add("val", "lacks", f"0 {LEFT}\n", brightness=230)
    folders.add("val", "confused", f"0 {LEFT}\n0 {RIGHT}\n", brightness=240)
    source = tmp_path / "source"
    files: dict[str, str | bytes] = {"classes.txt": "airplane\nhelicopter\n"}
    for entry in folders.index:
        name = Path(entry["source"]).stem
        files |= {entry["source"]: folders.picture(name).read_bytes(), f"labels/{name}.txt": entry["labels"]}
    write_tree(source, files)
    folders.evaluate()
    add_dataset(source, project=bench.project, name="planes")
    set_up(bench.project)
    return bench


def origins(bench: Bench) -> dict[str, str]:
    return {str(task["data"]["name"]): str(task["data"]["origin"]) for task in bench.tasks()}


def test_pictures_without_a_task_get_one_that_shows_what_is_missing(
    judged: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["labels", "suspects", "--review", "5"]) == 0
    assert "review: 2 new tasks, 0 tasks marked" in capsys.readouterr().out
    assert origins(judged) == {"lacks.png": "review", "confused.png": "review"}
    task = judged.task("lacks.png")
    assert task["data"]["review"].startswith("missed helicopter (0.")
    (prediction,) = task["predictions"]
    assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["airplane"], ["helicopter"]]
    assert "the model finds helicopter" in judged.task("confused.png")["data"]["review"]
    assert main(["labels", "suspects", "--review", "5"]) == 0
    assert "2 pictures were sent before" in capsys.readouterr().out and len(judged.tasks()) == 2
    judged.draw(task["id"], *RIGHT_BOXES)
    assert "relabelled (1):\n  lacks.png" in pull(judged.project)
    assert judged.boxes()["lacks.png"] == RIGHT_BOXES and judged.record()["origins"] == {"review": 1}


def test_the_task_of_a_picture_is_marked_and_keeps_its_annotation(
    judged: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_pictures(str(tmp_path / "source"), project=judged.project)
    assert main(["labels", "suspects", "--review", "1"]) == 0
    assert "review: 0 new tasks, 1 tasks marked" in capsys.readouterr().out
    assert sorted(origins(judged).values()) == ["dataset"] * 21 + ["review"]
    (marked,) = [task for task in judged.tasks() if task["data"]["origin"] == "review"]
    assert marked["data"]["review"] and len(marked["annotations"]) == 1
    assert pull(judged.project).endswith("nothing is new")


def test_the_missing_label_is_named_when_label_studio_lacks_a_class(
    judged: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    project = judged.label_studio.ask("GET", f"/api/projects/{judged.id}/")
    config = re.sub(r'<Label [^>]*value="helicopter"[^>]*/>', "", project["label_config"])
    judged.label_studio.ask("PATCH", f"/api/projects/{judged.id}/", json={"label_config": config})
    assert main(["labels", "suspects", "--review", "5"]) == 1
    assert "no label helicopter" in capsys.readouterr().err and judged.tasks() == []
