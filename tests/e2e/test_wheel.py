"""The whole wheel, with no step by hand: labelled, trained, served, missed, labelled and trained again, taken back."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.label_studio.labelled_dataset import read_boxes
from runner.label_studio.labelling_tasks import inspect_picture
from runner.label_studio.regions import LabelledBox, region
from runner.sample import draw_sample
from tests.support.label_studio import LabelStudio
from tests.support.projects import IDENTITY, Run, copy_project, set_params
from tests.support.s3 import S3
from tests.support.servers import running

pytestmark = pytest.mark.slow

CLASSES = ["airplane", "helicopter"]
TITLE = "the wheel"
PIN = Path("gitops/serving/environments/dev/model.env")
# A model of an epoch or two finds nothing: the gate asks for nothing, so that it can pass.
PARAMS = {
    "presets": {"train": "smoke"},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"name": "loop", "imgsz": 64},
    "gate": {"min_map50": 0.0, "min_boxes": 1, "max_latency": 100.0},
    "labels": {"title": TITLE},
}


class Person:
    """Somebody with a clone and the keys, who types the README's commands."""

    def __init__(self, folder: Path, run: Run, environment: dict[str, str]) -> None:
        self.folder, self.run, self.environment = folder, run, environment

    def does(self, *command: str) -> str:
        done = self.run(*command, cwd=self.folder, **self.environment)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return str(done.stdout)

    def runner(self, *arguments: str) -> str:
        return self.does("python", "-m", "runner", *arguments)

    def commits(self, message: str) -> None:
        self.does("git", "add", "-A")
        self.does("git", *IDENTITY, "commit", "-qm", message)

    def trains(self, message: str, *, before: bool = True) -> None:
        """Train, publish and pin; `before`: there is a model already, and the report knows what is missing."""
        assert not before or "trained: `dvc repro`" in self.runner("flywheel")
        self.does("dvc", "repro")
        assert not before or "published: `python -m runner publish`" in self.runner("flywheel")
        self.does("dvc", "push", "--run-cache")
        assert self.runner("gate").splitlines()[-1] == "passes"
        self.runner("publish")
        self.commits(message)
        self.runner("promote", "--to", "dev")
        self.commits(f"dev: {message}")

    def pin(self) -> dict[str, str]:
        lines = (self.folder / PIN).read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


class Annotator:
    """Knows what is in the pictures, and draws it through Label Studio's API."""

    def __init__(self, server: LabelStudio, drawn: Path) -> None:
        """Take the server, and the folders of drawn pictures with their labels."""
        self.server = server
        self.truth: dict[bytes, list[LabelledBox]] = {}
        for image in drawn.glob("*/images/*"):
            labels = image.parents[1] / "labels" / f"{image.stem}.txt"
            text = labels.read_text() if labels.exists() else ""
            self.truth[image.read_bytes()] = read_boxes(text, CLASSES)

    def waiting(self) -> list[dict[str, Any]]:
        (found,) = self.server.ask("GET", "/api/projects/", params={"title": TITLE})["results"]
        options = {"project": found["id"], "fields": "all", "page_size": -1}
        tasks: list[dict[str, Any]] = self.server.ask("GET", "/api/tasks/", params=options)["tasks"]
        return [task for task in tasks if not task["is_labeled"]]

    def work(self) -> None:
        """Look at each of them, as Label Studio shows it, and draw what is there."""
        for task in self.waiting():
            data = self.server.fetch(task["data"]["image"])
            info = inspect_picture(data)
            assert not isinstance(info, str), info
            result = [region(box, info.size_px, number) for number, box in enumerate(self.truth[data])]
            self.server.ask("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": result})


def draw(folder: Path, pictures: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    draw_sample(folder, pictures=pictures, seed=seed)
    return folder


def put(minio: S3, bucket: str, prefix: str, folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            minio.put(bucket, f"{prefix}/{file.relative_to(folder)}", file.read_bytes())


def test_the_report_shows_the_round_when_the_wheel_turned_once(
    project: Path, environment: dict[str, str], minio: S3, label_studio: LabelStudio, run: Run, tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    first, new, flown = draw(drawn / "planes", 40, 0), draw(drawn / "new", 20, 1), draw(drawn / "flown", 20, 2)
    store = {**minio.bucket(), "DVC_NO_ANALYTICS": "1"}
    bucket = store["STORE_URI"].removeprefix("s3://")
    put(minio, bucket, "incoming/planes", first)
    put(minio, bucket, "incoming/new", new / "images")
    annotator = Annotator(label_studio, drawn)
    me = Person(copy_project(project, tmp_path / "flywheel ü", environment), run, store | label_studio.environment)
    set_params(me.folder, PARAMS)
    me.runner("store", "init")
    me.runner("store", "use")
    me.runner("dataset", "add", f"{store['STORE_URI']}/incoming/planes/")

    # The project, with the dataset's boxes in it, and pictures that nobody labelled yet.
    me.runner("labels", "setup")
    assert "40 new tasks (40 with the dataset's boxes)" in me.runner("labels", "import", str(first))
    assert "20 new tasks" in me.runner("labels", "import", f"{store['STORE_URI']}/incoming/new/")
    assert len(annotator.waiting()) == 20
    annotator.work()
    assert "pictures             40      60     +20" in me.runner("labels", "pull")
    me.commits("labels")
    me.trains("first round", before=False)
    pinned = me.pin()

    # A server runs what is pinned; it sees pictures that it was never trained on, and keeps those that it misses.
    capturing = {
        **{"CAPTURE_URI": store["STORE_URI"], "CAPTURE_STRATEGIES": "nothing_found,below:1", "ENVIRONMENT": "dev"},
        **{"CAPTURE_PER_MINUTE": "100", "CAPTURE_SIMILAR_BITS": "-1"},
    }
    (tmp_path / "server").mkdir()
    keys = {name: value for name, value in store.items() if name.startswith("AWS_")}
    with running(tmp_path / "server", **pinned, **keys, **capturing) as server:
        images = sorted((flown / "images").iterdir())
        answers = [server.post("/detect", image.read_bytes()).json() for image in images]
        seen = answers[0]["request_id"].encode()
        verdict = server.post_form("/feedback", [("request_id", None, seen), ("verdict", None, b"missed")])
        assert verdict.json()["picture"] == "kept"
    served = answers[0]["model"]
    assert (served["name"], served["version"], served["commit"]) == ("loop", "1", pinned["MODEL_COMMIT"])

    # What came back is labelled, and the next version is trained on and judged beside the first.
    assert ": 20 tasks created" in me.runner("captures", "push")
    (asked,) = [task for task in annotator.waiting() if task["data"]["origin"] == "feedback"]
    assert asked["data"]["request_id"] == answers[0]["request_id"]
    assert asked["data"]["verdict"] == "missed"
    assert {task["data"]["model"] for task in annotator.waiting()} == {"loop 1"}
    annotator.work()
    assert "pictures             60      80     +20" in me.runner("labels", "pull")
    me.commits("labels: what was missed")
    me.trains("second round")
    judged = json.loads((me.folder / ".work/verdict.json").read_text())["findings"]
    assert {each["criterion"] for each in judged} >= {"AP50 of airplane", "AP50 of helicopter", "latency"}
    models = json.loads(me.runner("models", "--json"))
    listed = [(each["version"], each["environments"], each["latest"]) for each in models]
    assert listed == [(2, ["dev"], True), (1, [], False)]

    said_last = me.runner("flywheel")
    rounds = [line.split() for line in said_last.splitlines() if line.strip()[:1].isdigit()]
    #   round captured feedback annotated added relabelled model
    assert [[row[0], *row[2:8]] for row in rounds[:2]] == [
        ["1", "0", "0", "0", "20", "0", "1"],
        ["2", "20", "1", "20", "20", "0", "2"],
    ]
    assert "1 of 2 rounds added or relabelled captured pictures" in said_last
    assert (me.folder / ".work/flywheel.png").stat().st_size > 10_000
    assert "nothing is new" in me.runner("labels", "pull")
    assert ": 0 tasks created" in me.runner("captures", "push")
    assert json.loads(me.runner("plan", "--json"))["answer"] == "nothing"
    assert " 0 errors" in me.runner("store", "verify")
    me.does("git", *IDENTITY, "revert", "--no-edit", "HEAD")  # the way back is Git's
    assert me.pin() == pinned
