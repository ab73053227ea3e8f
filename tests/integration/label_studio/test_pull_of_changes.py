"""A pull that reads only the changed tasks gives the version that a pull of everything gives, on the real server."""

import random
import re
from pathlib import Path

import pytest

from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.regions import LabelledBox
from runner.label_studio.setup import set_up
from runner.label_studio.task_states import states_key
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench, labelled, picture, pictures

READ = re.compile(r" \((\d+) read, the others did not change\)")


@pytest.fixture
def started(bench: Bench, tmp_path: Path) -> Bench:
    """A version of eight annotated pictures, beside four that wait."""
    names = [f"first{number}.jpg" for number in range(8)]
    source = labelled(tmp_path / "first", dict.fromkeys(names, "0 0.5 0.5 0.25 0.25\n"))
    set_up(bench.project)
    import_pictures(str(source), project=bench.project)
    import_pictures(str(pictures(tmp_path / "new", 4)), project=bench.project)
    assert read(pull(bench.project)) is None
    return bench


def read(text: str) -> int | None:
    """How many tasks a pull read; None: all."""
    found = READ.search(text)
    return int(found[1]) if found else None


def pull_twice(bench: Bench, *, remove: bool = False) -> str:
    """Pull the changes, then everything from the same version; return the text of the first, which agrees."""
    before = bench.params
    text, after = pull(bench.project, remove=remove), bench.params
    version = bench.dataset()
    (bench.project / "params.yaml").write_text(before)
    states = bench.project.parent / "store" / states_key(bench.version)
    kept = states.read_bytes()
    states.unlink()
    again = pull(bench.project, remove=remove)
    assert read(again) is None and bench.dataset() == version and bench.params == after
    told, all_told = (each.partition("\nstored as")[0].partition("\nin the store")[0] for each in (text, again))
    assert READ.sub("", told) == all_told
    states.write_bytes(kept)
    return text


def test_only_the_changed_tasks_are_read(started: Bench) -> None:
    assert read(pull(started.project)) == 0
    started.draw(started.task("first3.jpg")["id"], HELICOPTER)
    started.draw(started.task("0001.jpg")["id"], AIRPLANE)
    text = pull_twice(started)
    assert read(text) == 2 and "added (1):\n  0001.jpg" in text and "relabelled (1):\n  first3.jpg" in text


def test_another_machine_reads_only_the_changes_too(started: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last pull saw lies in the store, not on the machine."""
    monkeypatch.setenv("RUNNER_WORK", str(started.project.parent / "another machine"))
    started.draw(started.task("0002.jpg")["id"], AIRPLANE)
    assert read(pull(started.project)) == 1


def test_everything_is_read_when_the_classes_change(started: Bench) -> None:
    started.set(dataset={"classes": ["airplane", "helicopter", "drone"]})
    set_up(started.project)
    assert read(pull(started.project)) is None


def test_a_deletion_is_seen(started: Bench) -> None:
    started.label_studio.ask("DELETE", f"/api/tasks/{started.task('first1.jpg')['id']}/")
    (annotation,) = started.task("first2.jpg")["annotations"]
    started.label_studio.ask("DELETE", f"/api/annotations/{annotation['id']}/")
    assert "1 without a task" in pull_twice(started) and "1 whose task has no annotation" in pull_twice(started)
    assert "removed (2)" in pull_twice(started, remove=True)


def test_an_older_annotation_counts_again_when_the_twins_is_deleted(started: Bench, tmp_path: Path) -> None:
    started.upload(tmp_path / "first" / "images" / "first0.jpg")
    (twin,) = [task for task in started.tasks() if "name" not in task["data"]]
    annotation = started.draw(twin["id"], HELICOPTER)
    assert "relabelled (1):\n  first0.jpg" in pull_twice(started)
    started.label_studio.ask("DELETE", f"/api/annotations/{annotation}/")
    assert "relabelled (1):\n  first0.jpg" in pull_twice(started)
    assert started.boxes()["first0.jpg"] == [AIRPLANE]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_versions_agree_after_any_edits(started: Bench, tmp_path: Path, seed: int) -> None:
    """Label Studio's own actions on many tasks too, which do not always touch a task's time of update."""
    chance = random.Random(seed)
    ask, files = started.label_studio.ask, sorted((tmp_path / "first/images").iterdir())

    def draw(task: int) -> None:
        box = LabelledBox(chance.choice(["airplane", "helicopter"]), (0.5, 0.5, chance.choice([0.2, 0.3]), 0.25))
        started.draw(task, *[box] * chance.randint(0, 1), cancelled=chance.random() < 0.3)

    def act(name: str, tasks: list[int]) -> None:
        content = {"selectedItems": {"all": False, "included": tasks}, "ordering": []}
        ask("POST", f"/api/dm/actions/?id={name}&project={started.id}", json=content)

    for _ in range(4):
        for _ in range(chance.randint(1, 4)):
            tasks = started.tasks()
            task = chance.choice(tasks)
            annotations = [each["id"] for each in task["annotations"]]
            match chance.randint(0, 6):
                case 0 | 1:
                    draw(task["id"])
                case 2 if annotations:
                    ask("DELETE", f"/api/annotations/{chance.choice(annotations)}/")
                case 3 if annotations:
                    ask("PATCH", f"/api/annotations/{chance.choice(annotations)}/", json={"result": []})
                case 4 if len(tasks) > 6:
                    ask("DELETE", f"/api/tasks/{task['id']}/")
                case 5:
                    started.upload(chance.choice([*files, picture(tmp_path / f"{chance.random()}.jpg", len(tasks))]))
                case 6:
                    some = [each["id"] for each in chance.sample(tasks, 2)]
                    act(chance.choice(["delete_tasks_annotations", "remove_duplicates"]), some)
        pull_twice(started, remove=chance.random() < 0.3)
