import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.dataset.add import add_dataset
from runner.errors import LabelStudioError
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.server import SETTINGS
from runner.label_studio.setup import TAB, check_label_studio, set_up
from runner.sample import CLASSES
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench, labelled, pictures
from tests.support.answering import Handler, answering
from tests.support.label_studio import LabelStudio
from tests.support.s3 import S3


@pytest.fixture
def heard() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver of webhooks: its address, and what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    class Receiver(Handler):
        def do_POST(self) -> None:  # noqa: N802
            came.append((dict(self.headers), self.body()))
            self.answer(200)

    with answering(Receiver) as port:
        yield f"http://127.0.0.1:{port}/labels", came


def project_of(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = bench.label_studio.ask("GET", f"/api/projects/{bench.id}/")
    return found


def test_the_project_is_made_once_when_set_up_again(either_bench: Bench) -> None:
    said = set_up(either_bench.project)
    assert f"+ project {either_bench.title}" in said and 'value="helicopter"' in said
    found = project_of(either_bench)
    assert all(found[name] for name in SETTINGS)
    assert found["parsed_label_config"].keys() == {"label"}  # tasks need no data but their image
    address = f"{either_bench.label_studio.url}/projects/{either_bench.id}/data"
    assert set_up(either_bench.project) == f"{either_bench.title}: nothing to change, {address}"


def test_the_project_is_updated_when_git_says_otherwise(bench: Bench) -> None:
    set_up(bench.project)
    before, classes = bench.id, ["airplane", "helicopter", "a <b> & c"]
    bench.set(dataset={"classes": classes})
    added, _ = set_up(bench.project).splitlines()
    assert added.startswith("+     <Label background=") and "a &lt;b&gt; &amp; c" in added
    assert list(project_of(bench)["parsed_label_config"]["label"]["labels"]) == classes and bench.id == before
    choice = '<Choices name="c" toName="image"><Choice value="x"/></Choices>'
    odd = f'<View><Image name="image" value="$image"/>{choice}</View>'
    change = {"label_config": odd, "show_skip_button": False}
    bench.label_studio.ask("PATCH", f"/api/projects/{bench.id}/", json=change)
    said = set_up(bench.project)
    assert '-   <Choices name="c" toName="image">' in said and "+ show_skip_button: true" in said
    assert "nothing to change" in set_up(bench.project)


def test_the_tab_has_the_waiting_tasks_in_order_when_set_up(bench: Bench, tmp_path: Path) -> None:
    """Its order is restored, and the columns that people chose stay; beside it is a tab of all tasks."""
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 5)), project=bench.project)
    first, done, second, third, fourth = bench.tasks()
    bench.draw(done["id"], AIRPLANE)
    for task, priority in ((first, "0.31"), (third, "1 reported"), (fourth, "0.63")):
        bench.label_studio.ask(
            "PATCH", f"/api/tasks/{task['id']}/", json={"data": {**task["data"], "priority": priority}}
        )

    def tab() -> dict[str, Any]:
        views = bench.label_studio.ask("GET", "/api/dm/views/", params={"project": bench.id})
        assert [each["data"]["title"] for each in views] == [TAB, "All"]
        return dict(views[0])

    def listed() -> list[int]:
        shown = bench.label_studio.ask("GET", "/api/tasks/", params={"view": tab()["id"], "project": bench.id})
        return [task["id"] for task in shown["tasks"]]

    assert listed() == [third["id"], fourth["id"], first["id"], second["id"]]
    changed = {**tab()["data"], "ordering": ["tasks:id"], "hiddenColumns": {"explore": [], "labeling": []}}
    bench.label_studio.ask("PATCH", f"/api/dm/views/{tab()['id']}/", json={"data": changed, "project": bench.id})
    assert listed() == [first["id"], second["id"], third["id"], fourth["id"]]
    assert f"+ tab {TAB}" in set_up(bench.project) and "nothing to change" in set_up(bench.project)
    assert listed() == [third["id"], fourth["id"], first["id"], second["id"]]
    assert tab()["data"]["hiddenColumns"] == {"explore": [], "labeling": []}


def test_a_class_cannot_be_withdrawn_when_the_dataset_has_boxes_of_it(bench: Bench, tmp_path: Path) -> None:
    """Neither in a project that is there, nor in a new one; a pull without them lets it go."""
    source = labelled(tmp_path / "first", {"a.jpg": "0 0.5 0.5 0.25 0.25\n", "b.jpg": "1 0.5 0.5 0.25 0.25\n"})
    add_dataset(source, project=bench.project, name="planes")
    bench.set(dataset={"classes": ["airplane"]})
    with pytest.raises(LabelStudioError, match=r"dataset\.classes lists airplane, .* 1 boxes of helicopter"):
        set_up(bench.project)
    bench.set(dataset={"classes": ["airplane", "helicopter"]})
    set_up(bench.project)
    import_pictures(str(source), project=bench.project)
    bench.set(dataset={"classes": ["airplane"]})
    with pytest.raises(LabelStudioError, match=r"1 boxes of helicopter"):
        set_up(bench.project)
    assert "helicopter" in project_of(bench)["label_config"]
    bench.set(dataset={"classes": ["airplane", "helicopter"]})
    (annotation,) = bench.task("b.jpg")["annotations"]
    bench.label_studio.ask("PATCH", f"/api/annotations/{annotation['id']}/", json={"result": []})
    pull(bench.project)
    bench.set(dataset={"classes": ["airplane"]})
    assert "- " in set_up(bench.project) and "helicopter" not in project_of(bench)["label_config"]
    assert pull(bench.project) and bench.dataset().classes == ["airplane"]


def test_the_doctor_says_what_differs_when_label_studio_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = check_label_studio(bench.project)
    assert "labels setup" in finding.remedy
    set_up(bench.project)
    (finding,) = check_label_studio(bench.project)
    assert bench.title in finding.what and not finding.remedy
    bench.label_studio.ask("PATCH", f"/api/projects/{bench.id}/", json={"show_skip_button": False})
    bench.set(dataset={"classes": ["airplane", "ship"]})
    (finding,) = check_label_studio(bench.project)
    assert "show_skip_button, labels" in finding.what and "labels setup" in finding.remedy
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    (finding,) = check_label_studio(bench.project)
    assert "is refused" in finding.remedy
    monkeypatch.setenv("LABEL_STUDIO_URL", "")
    assert list(check_label_studio(bench.project)) == []


def test_a_label_stays_when_annotations_use_it(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    bench.draw(bench.task("0000.jpg")["id"], HELICOPTER)
    bench.set(dataset={"classes": ["airplane"]})
    with pytest.raises(LabelStudioError, match=r"^helicopter: .*dataset\.classes"):
        set_up(bench.project)
    assert "helicopter" in project_of(bench)["label_config"]
    bench.set(dataset={"classes": ["helicopter"]})
    assert "nothing to change" not in set_up(bench.project)
    assert "airplane" not in project_of(bench)["label_config"]


def test_label_studio_reads_the_bucket_and_syncs_nothing_when_the_store_is_one(
    bucket_bench: Bench, tmp_path: Path, minio: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the keys of the user `labels`, which may read datasets and captures and nothing else."""
    bucket = bucket_bench.store.uri.removeprefix("s3://")
    user, password = f"labels{secrets.token_hex(4)}", secrets.token_hex(16)
    make_user(minio, bucket, user, password)
    monkeypatch.setenv("LABEL_STUDIO_AWS_ACCESS_KEY_ID", user)
    monkeypatch.setenv("LABEL_STUDIO_AWS_SECRET_ACCESS_KEY", password)
    assert f"+ storage s3://{bucket}" in set_up(bucket_bench.project)
    (storage,) = bucket_bench.label_studio.ask("GET", "/api/storages/s3/", params={"project": bucket_bench.id})
    assert (storage["bucket"], storage["presign"], storage["use_blob_urls"]) == (bucket, False, True)
    import_pictures(str(pictures(tmp_path / "new", 2)), project=bucket_bench.project)
    bucket_bench.label_studio.ask("POST", f"/api/storages/s3/{storage['id']}/sync", json={})
    assert len(bucket_bench.tasks()) == 2
    assert "nothing to change" in set_up(bucket_bench.project)
    minio.admin().user_remove(user)
    other = f"labels{secrets.token_hex(4)}"
    make_user(minio, bucket, other, password)
    monkeypatch.setenv("LABEL_STUDIO_AWS_ACCESS_KEY_ID", other)
    assert "+ storage: new keys" in set_up(bucket_bench.project)
    assert "nothing to change" in set_up(bucket_bench.project)


def make_user(minio: S3, bucket: str, user: str, password: str) -> None:
    """A user of MinIO with the rights that `store init` gives to `labels`."""
    from runner.store.users import policy_of

    admin = minio.admin()
    admin.user_add(user, password)
    admin.policy_add(f"labels-{bucket}", policy=policy_of("labels", bucket))
    admin.attach_policy([f"labels-{bucket}"], user=user)


def test_the_reason_is_given_when_label_studio_may_not_call_the_store(
    bucket_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = LabelStudio(tmp_path / "careful", guarded=True).start()
    try:
        monkeypatch.setenv("LABEL_STUDIO_URL", careful.url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", careful.token)
        with pytest.raises(LabelStudioError, match=r"reserved network address.*USE_DEFAULT_BANNED_SUBNETS"):
            set_up(bucket_bench.project)
    finally:
        careful.stop()


def test_somebody_is_told_when_a_picture_is_annotated(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: tuple[str, list[tuple[dict[str, str], bytes]]]
) -> None:
    url, came = heard
    monkeypatch.setenv("LABEL_STUDIO_WEBHOOK_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_WEBHOOK_SECRET", "a word")
    assert f"+ webhook {url}" in set_up(bench.project)
    assert "nothing to change" in set_up(bench.project)
    import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    assert not came
    bench.draw(bench.task("0000.jpg")["id"], AIRPLANE)
    ((headers, body),) = came
    assert headers["Authorization"] == "Bearer a word"
    assert body == b'{"action": "ANNOTATION_CREATED"}'
    monkeypatch.setenv("LABEL_STUDIO_WEBHOOK_SECRET", "another")
    assert f"+ webhook {url}: new headers" in set_up(bench.project)


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # Label Studio's client calls it
def test_either_token_is_taken_when_it_is_valid(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", bench.label_studio.personal_token())
    assert "is set up" in set_up(bench.project)
    assert "1 new tasks" in import_pictures(str(pictures(tmp_path / "new", 1)), project=bench.project)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", bench.label_studio.token)
    assert "nothing to change" in set_up(bench.project)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LABEL_STUDIO_URL", "", "^LABEL_STUDIO_URL is ''"),
        ("LABEL_STUDIO_URL", "localhost:8080", "^LABEL_STUDIO_URL is 'localhost:8080'"),
        ("LABEL_STUDIO_URL", "http://127.0.0.1:9", "^http://127.0.0.1:9: .*Connection refused"),
        ("LABEL_STUDIO_API_KEY", "", "^LABEL_STUDIO_API_KEY is not set, .*/user/account"),
        ("LABEL_STUDIO_API_KEY", "0" * 40, "answered 401: .*LABEL_STUDIO_API_KEY is refused"),
        ("LABEL_STUDIO_API_KEY", "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.MA", "API key has expired.*is refused"),
    ],
)
def test_the_setting_is_named_when_the_server_is_not_reached(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(LabelStudioError, match=message):
        set_up(bench.project)


def test_the_classes_are_those_of_the_sample_when_there_is_no_dataset(bench: Bench) -> None:
    bench.set(dataset={"classes": None})
    set_up(bench.project)
    assert list(project_of(bench)["parsed_label_config"]["label"]["labels"]) == list(CLASSES)
    assert "nothing is new" in pull(bench.project)
