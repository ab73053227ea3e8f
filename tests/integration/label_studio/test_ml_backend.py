"""The real Label Studio shows the boxes of the model server, its ML backend."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import LabelStudioError
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.setup import set_up
from tests.support.annotating import SIZE, Bench, pictures
from tests.support.servers import Server, running

KEY = "ein Schlüssel von uns".encode().hex()


@pytest.fixture(params=["legacy", "personal"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, bench: Bench, bright_model: Path) -> Iterator[Server]:
    """A model server that may read the uploads of the bench's Label Studio, with a token of each kind."""
    label_studio = bench.label_studio
    token = label_studio.token if request.param == "legacy" else label_studio.personal_token()
    settings = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": token, "MAX_BATCH_PICTURES": "3"}
    with running(tmp_path, MODEL_URI=str(bright_model), ML_BACKEND="true", API_KEY=KEY, **settings) as server:
        yield server


def connect(bench: Bench, server: Server, key: str) -> Any:
    content = {"project": bench.id, "url": f"http://127.0.0.1:{server.port}/ml", "title": "model server"}
    content |= {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass": key}
    return bench.label_studio.ask("POST", "/api/ml/", json=content)


def test_label_all_tasks_shows_its_boxes_when_setup_has_connected_it(
    backend: Server, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{backend.port}/ml"
    monkeypatch.setenv("LABEL_STUDIO_ML_BACKEND_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_ML_BACKEND_KEY", "wrong")
    with pytest.raises(LabelStudioError, match="authentication"):
        set_up(bench.project)
    monkeypatch.setenv("LABEL_STUDIO_ML_BACKEND_KEY", KEY)
    assert f"+ ML backend {url}\n" in set_up(bench.project)
    assert "nothing to change" in set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    options = {"id": "next_task", "project": bench.id}
    shown = bench.label_studio.ask("POST", "/api/dm/actions/", params=options, json={})
    assert [each["model_version"].split()[0] for each in shown["predictions"]] == ["bright"]


def predict_all(bench: Bench) -> None:
    options = {"id": "retrieve_tasks_predictions", "project": bench.id}
    chosen = {"selectedItems": {"all": True, "excluded": []}}
    bench.label_studio.ask("POST", "/api/dm/actions/", params=options, json=chosen)


def corners(prediction: dict[str, Any]) -> dict[str, list[float]]:
    """Return the boxes of a prediction, in pixels."""
    found = {}
    for region in prediction["result"]:
        x, y, w, h = (region["value"][key] / 100 for key in ("x", "y", "width", "height"))
        box = (x * SIZE[0], y * SIZE[1], (x + w) * SIZE[0], (y + h) * SIZE[1])
        assert (region["original_width"], region["original_height"]) == SIZE
        found[region["value"]["rectanglelabels"][0]] = [*box, region["score"]]
    return found


def test_boxes_of_the_server_shown_when_it_is_connected(backend: Server, bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 3)), project=bench.project)
    with pytest.raises(AssertionError, match="authentication"):
        connect(bench, backend, "wrong")
    assert connect(bench, backend, KEY)["state"] == "CO"
    predict_all(bench)
    for task in bench.tasks():
        (prediction,) = task["predictions"]
        answer = backend.post("/detect", (tmp_path / "new" / task["data"]["name"]).read_bytes(), X_API_Key=KEY).json()
        assert prediction["model_version"] == f"bright {answer['model']['sha256'][:12]}"
        expected = {each["label"]: [*each["box"].values(), each["confidence"]] for each in answer["detections"]}
        assert {label: pytest.approx(box, abs=0.01) for label, box in expected.items()} == corners(prediction)
        assert prediction["score"] == pytest.approx(min(box[-1] for box in expected.values()))
    # More than the server takes at once, and one that names another host.
    import_pictures(str(pictures(tmp_path / "more", 5, first=10)), project=bench.project)
    hostile = {"image": "http://169.254.169.254/latest/meta-data/", "name": "hostile"}
    bench.label_studio.ask("POST", f"/api/projects/{bench.id}/import", json=[{"data": hostile}])
    predict_all(bench)
    found = {task["data"]["name"]: len(task["predictions"]) for task in bench.tasks()}
    assert found.pop("hostile") == 0
    assert len(found) == 8 and set(found.values()) == {1}
    assert b'flywheel_rejects_total{reason="elsewhere"}' in backend.get("/metrics", **{"X-API-Key": KEY}).body
