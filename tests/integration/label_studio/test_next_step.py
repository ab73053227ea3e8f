"""The step that `flywheel` names, all around the wheel."""

import json
from pathlib import Path

from runner.config.edit import get_param
from runner.dataset.add import add_dataset
from runner.label_studio.flywheel import report
from runner.label_studio.pull import pull
from runner.label_studio.push import push_captures
from runner.label_studio.setup import set_up
from serving.storage.detections import ModelName
from tests.support.annotating import AIRPLANE, SIZE, Bench, labelled, picture
from tests.support.captures import keep_capture


def publish(bench: Bench, number: int) -> None:
    """Put a version's manifest into the store, trained on the dataset that params.yaml names."""
    params = bench.project / "params.yaml"
    dataset = {key: get_param(params, ("dataset", key)) for key in ("url", "sha256")}
    manifest = {"name": "flyingthings", "version": number, "onnx_sha256": f"{number:064x}", "classes": ["airplane"]}
    content = json.dumps({**manifest, "metrics": {}, "verdict": {"passed": True}, "dataset": dataset}).encode()
    bench.store.create(f"models/flyingthings/{number}/manifest.json", content)


def next_step(bench: Bench) -> str:
    (line,) = [line for line in report(bench.project).splitlines() if line.startswith("next: ")]
    return line


def test_the_missing_step_is_named_all_around_the_wheel(bench: Bench, tmp_path: Path) -> None:
    source = labelled(tmp_path / "first", {"a.jpg": "0 0.5 0.5 0.25 0.25\n"})
    add_dataset(source, project=bench.project, name="planes")
    set_up(bench.project)
    publish(bench, 1)
    assert "CAPTURE_URI" in next_step(bench)
    data = picture(tmp_path / "seen.jpg", 50).read_bytes()
    model = ModelName(name="flyingthings", version="1", sha256=f"{1:064x}")
    keep_capture(bench.store.uri, 0.3, data=data, size=SIZE, model=model)
    assert "captures push" in next_step(bench)
    push_captures(bench.project)
    assert "1 captured pictures wait for an annotator" in next_step(bench)
    (task,) = bench.tasks()
    bench.draw(task["id"], AIRPLANE)
    assert next_step(bench).endswith("`python -m runner labels pull`")
    pull(bench.project)
    assert "trained: `dvc repro`" in next_step(bench)
    publish(bench, 2)
    assert "nothing was captured since" in next_step(bench)
