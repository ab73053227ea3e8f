import io
import re
import uuid
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from runner.__main__ import main
from runner.config.edit import get_param
from runner.dataset.add import add_dataset
from runner.errors import LabelStudioError, NotSetUpError
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.regions import LabelledBox
from runner.label_studio.setup import set_up
from tests.support import projects
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench, labelled, picture, pictures
from tests.support.cutting import cutting
from tests.support.gitea import REPOSITORY, Gitea
from tests.support.pictures import turned


@pytest.fixture
def started(bench: Bench, tmp_path: Path) -> Bench:
    return start(bench, tmp_path)


def start(bench: Bench, folder: Path, count: int = 3) -> Bench:
    set_up(bench.project)
    import_pictures(str(pictures(folder / "new", count)), project=bench.project)
    return bench


def refused(bench: Bench, message: str) -> None:
    """Assert that a pull fails with this message and writes nothing."""
    before, keys = bench.params, bench.store.list("")
    with pytest.raises(LabelStudioError, match=message):
        pull(bench.project)
    assert (bench.params, bench.store.list("")) == (before, keys)


def test_a_version_comes_out_when_pictures_were_annotated(either_bench: Bench, tmp_path: Path) -> None:
    """Ids are in the order of dataset.classes, and pictures without a box are background."""
    either_bench.set(dataset={"classes": ["helicopter", "airplane"]})
    start(either_bench, tmp_path)
    text, before = pull(either_bench.project), either_bench.params
    assert text.startswith("3 tasks in Label Studio: 0 finished, 0 skipped") and text.endswith("nothing is new")
    either_bench.draw(either_bench.task("0000.jpg")["id"], AIRPLANE, HELICOPTER)
    either_bench.draw(either_bench.task("0001.jpg")["id"])
    assert "pictures             0       2      +2" in pull(either_bench.project)
    assert either_bench.boxes() == {"0000.jpg": [HELICOPTER, AIRPLANE], "0001.jpg": []}
    assert either_bench.dataset().classes == ["helicopter", "airplane"] and either_bench.params != before
    assert (either_bench.record()["added"], either_bench.record()["origins"]) == (2, {"import": 2})
    after = either_bench.params
    assert pull(either_bench.project).endswith("nothing is new")
    assert either_bench.params == after


def test_the_newest_counts_when_a_task_was_annotated_twice(started: Bench) -> None:
    first, skipped, drawn = (started.task(f"000{number}.jpg")["id"] for number in range(3))
    old = started.draw(first, AIRPLANE)
    started.draw(first, HELICOPTER)
    started.draw(skipped, AIRPLANE)
    started.draw(skipped, cancelled=True)
    started.draw(drawn, cancelled=True)
    started.draw(drawn, AIRPLANE)
    assert "2 finished, 1 skipped" in pull(started.project)
    assert started.boxes() == {"0000.jpg": [HELICOPTER], "0002.jpg": [AIRPLANE]}
    started.label_studio.ask("PATCH", f"/api/annotations/{old}/", json={"result": []})
    pull(started.project)
    assert started.boxes() == {"0000.jpg": [], "0002.jpg": [AIRPLANE]}


def test_nothing_is_written_when_annotations_are_invalid(started: Bench) -> None:
    tasks = [started.task(f"000{number}.jpg")["id"] for number in range(3)]
    started.draw(tasks[0], LabelledBox("airplane", (0.55, 0.5, 0.3, 0.2)), rotation=30)
    wrong = [started.draw(tasks[1], LabelledBox("submarine", AIRPLANE.xywhn))]
    wrong.append(started.draw(tasks[2], AIRPLANE, rectanglelabels=[]))
    started.set(labels={"rotated": "refuse"})
    refused(
        started, rf"\(3\):\n.*task={tasks[0]}: .*30 degrees.*\n.*{tasks[1]}: .*'submarine'.*\n.*{tasks[2]}: .*0 lab"
    )
    started.set(labels={"rotated": "box"})
    refused(started, rf"\(2\):\n.*{tasks[1]}: .*'submarine'")
    for annotation in wrong:
        started.label_studio.ask("DELETE", f"/api/annotations/{annotation}/")
    assert re.search(rf"\(1\):\n.*task={tasks[0]}: .*30 degrees", pull(started.project))
    assert [len(boxes) for boxes in started.boxes().values()] == [1]


def test_the_newest_counts_when_two_tasks_show_the_same_picture(started: Bench, tmp_path: Path) -> None:
    started.upload(tmp_path / "new" / "0000.jpg")
    (twin,) = [task for task in started.tasks() if "name" not in task["data"]]
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    started.draw(twin["id"], HELICOPTER)
    assert "2 finished, 0 skipped; 1 with" in pull(started.project)
    assert list(started.boxes().values()) == [[HELICOPTER]]


def test_pictures_come_through_label_studio_when_people_uploaded_them(either_bench: Bench, tmp_path: Path) -> None:
    set_up(either_bench.project)
    either_bench.upload(picture(tmp_path / "my own.jpg", 7))
    (task,) = either_bench.tasks()
    either_bench.draw(task["id"], AIRPLANE)
    pull(either_bench.project)
    assert either_bench.boxes() == {"my_own.jpg": [AIRPLANE]}
    assert either_bench.picture("my_own.jpg") == (tmp_path / "my own.jpg").read_bytes()


def test_pictures_come_from_another_bucket_when_a_storage_has_it(
    bucket_bench: Bench, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A storage that people connected themselves, and synchronised: its tasks know nothing of digests."""
    set_up(bucket_bench.project)
    minio = request.getfixturevalue("minio")
    other = minio.bucket()["STORE_URI"].removeprefix("s3://")
    minio.client().fput_object(other, "from a camera/a b.jpg", str(picture(tmp_path / "a.jpg", 8)))
    storage = {
        "project": bucket_bench.id,
        "bucket": other,
        "s3_endpoint": minio.url,
        "aws_access_key_id": minio.user,
        "aws_secret_access_key": minio.password,
        "use_blob_urls": True,
        "presign": True,
        "recursive_scan": True,
    }
    made = bucket_bench.label_studio.ask("POST", "/api/storages/s3/", json=storage)
    bucket_bench.label_studio.ask("POST", f"/api/storages/s3/{made['id']}/sync", json={})
    (task,) = bucket_bench.tasks()
    bucket_bench.draw(task["id"], HELICOPTER)
    pull(bucket_bench.project)
    assert bucket_bench.boxes() == {"a b.jpg": [HELICOPTER]}


def test_all_come_when_there_are_more_than_a_page(either_bench: Bench, tmp_path: Path) -> None:
    labels: dict[str, str | None] = {f"{number:04}.jpg": "0 0.5 0.5 0.25 0.25\n" for number in range(250)}
    source = str(labelled(tmp_path / "dataset", labels))
    set_up(either_bench.project)
    assert "250 new tasks (250 with" in import_pictures(source, project=either_bench.project)
    assert "0 new tasks, 250 " in import_pictures(source, project=either_bench.project)
    assert "250 finished" in pull(either_bench.project)
    assert either_bench.boxes() == {name: [AIRPLANE] for name in labels}


def test_the_first_dataset_lives_on_when_others_are_annotated(either_bench: Bench, tmp_path: Path) -> None:
    """Its rows stay, its licence and its background pictures too; it can be relabelled."""
    odd = "0 0.5 0.5 0.25 0.25 0.9\n1 .25 0.25000001 0.25 0.25\n"
    source = labelled(tmp_path / "first", {"a.jpg": odd, "b.jpg": "", "c.jpg": None, "d.jpg": "0 0.9 0.5 0.4 0.2\n"})
    (source / "LICENSE").write_text("of the pictures")
    add_dataset(source, project=either_bench.project, name="planes")
    before, previous = either_bench.dataset(), get_param(either_bench.project / "params.yaml", ("dataset", "sha256"))
    set_up(either_bench.project)
    import_pictures(str(source), project=either_bench.project)
    assert pull(either_bench.project).endswith("nothing is new")
    import_pictures(str(pictures(tmp_path / "new", 2)), project=either_bench.project)
    either_bench.draw(either_bench.task("0001.jpg")["id"], HELICOPTER)
    either_bench.draw(either_bench.task("b.jpg")["id"], HELICOPTER)
    text = pull(either_bench.project)
    assert "added (1):\n  0001.jpg" in text and "relabelled (1):\n  b.jpg" in text
    after = either_bench.dataset()
    kept = {"a.jpg", "c.jpg", "d.jpg"}
    assert {row for row in after.rows if row.name in kept} == {row for row in before.rows if row.name in kept}
    assert after.about == before.about and len(after.about) == 1
    assert either_bench.record()["previous"] == previous
    assert either_bench.record()["origins"] == {"import": 1, "dataset": 1}


def test_pictures_stay_unless_a_removal_is_asked_for(started: Bench, tmp_path: Path) -> None:
    """A deleted annotation, a deleted task and a skip each leave a picture of the dataset without an annotation."""
    names = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    source = labelled(tmp_path / "first", dict.fromkeys(names, "0 0.5 0.5 0.25 0.25\n"))
    add_dataset(source, project=started.project, name="planes")
    import_pictures(str(source), project=started.project)
    started.draw(started.task("a.jpg")["id"], cancelled=True)
    started.label_studio.ask("DELETE", f"/api/tasks/{started.task('b.jpg')['id']}/")
    (annotation,) = started.task("d.jpg")["annotations"]
    started.label_studio.ask("DELETE", f"/api/annotations/{annotation['id']}/")
    text = pull(started.project)
    assert "1 skipped, 1 whose task has no annotation (any more), 1 without a task (any more)" in text
    assert "(any more) (1):\n  d.jpg" in text and text.endswith("nothing is new")
    assert set(started.boxes()) == set(names)
    assert "removed (3):\n  a.jpg\n  b.jpg\n  d.jpg" in pull(started.project, remove=True)
    assert set(started.boxes()) == {"c.jpg"}


def test_a_picture_is_named_when_a_second_person_annotated_it_otherwise(started: Bench) -> None:
    """The newest counts; it is named in the pull that it changes, and not again."""
    for name in ("0000.jpg", "0001.jpg"):
        started.draw(started.task(name)["id"], AIRPLANE)
    second = started.label_studio.join(f"{uuid.uuid4().hex}@example.com")
    started.draw(started.task("0000.jpg")["id"], HELICOPTER, person=second)
    started.draw(started.task("0001.jpg")["id"], LabelledBox("airplane", (0.52, 0.5, 0.25, 0.25)), person=second)
    task = started.task("0000.jpg")["id"]
    text = pull(started.project)
    assert re.search(rf"two people.* \(1\):\n  0000.jpg: http\S+task={task}\n", text)
    assert started.boxes()["0000.jpg"] == [HELICOPTER]
    assert "two people" not in pull(started.project)


@pytest.mark.parametrize("frame", ["stored", "seen"])
def test_boxes_are_where_people_see_them_when_exif_turns_the_picture(
    bench: Bench, tmp_path: Path, frame: Literal["stored", "seen"]
) -> None:
    """Label Studio's editor shows the picture upright, so its percents are of that, as the boxes of a version are."""
    seen = (0.2, 0.3, 0.1, 0.2)
    in_frame = (0.3, 0.8, 0.2, 0.1) if frame == "stored" else seen
    source = labelled(tmp_path / "first", {"a.jpg": f"0 {' '.join(map(str, in_frame))}\n"})
    (source / "images" / "a.jpg").write_bytes(turned(6))
    add_dataset(source, project=bench.project, name="planes", frame=frame)
    set_up(bench.project)
    import_pictures(str(source), project=bench.project, frame=frame)
    (region,) = bench.task("a.jpg")["annotations"][0]["result"]
    assert (region["original_width"], region["original_height"]) == (40, 30)
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == pytest.approx([15, 20, 10, 20])
    assert pull(bench.project).endswith("nothing is new")
    bench.draw(bench.task("a.jpg")["id"], LabelledBox("helicopter", seen))
    pull(bench.project)
    assert bench.boxes() == {"a.jpg": [LabelledBox("helicopter", seen)]}


def test_only_what_is_new_is_sent_when_pictures_are_added(bucket_bench: Bench, tmp_path: Path) -> None:
    """Label Studio's pictures are in the store already: a pull adds the index, its record and the tasks' states."""
    start(bucket_bench, tmp_path, 30)
    for number in range(20):
        bucket_bench.draw(bucket_bench.task(f"{number:04}.jpg")["id"], AIRPLANE)
    pull(bucket_bench.project)
    keys = set(bucket_bench.store.list("datasets/"))
    bucket_bench.draw(bucket_bench.task("0025.jpg")["id"], HELICOPTER)
    assert ": 0 files, " in pull(bucket_bench.project)
    new = set(bucket_bench.store.list("datasets/")) - keys
    assert {key.partition(".")[2] for key in new} == {"json", "jsonl", "tasks.gz"}
    assert len(bucket_bench.boxes()) == 21


def test_new_pictures_get_a_part_when_the_dataset_has_parts(started: Bench, tmp_path: Path) -> None:
    names = [f"clip{clip}_f{frame}.jpg" for clip in range(3) for frame in range(2)]
    source = labelled(tmp_path / "first", dict.fromkeys(names, "0 0.5 0.5 0.25 0.25\n"))
    for clip, part in enumerate(("train", "val", "test")):
        (source / f"{part}.txt").write_text("".join(f"images/clip{clip}_f{frame}.jpg\n" for frame in range(2)))
    started.set(split={"mode": "given", "group": "^(.*)_f"})
    add_dataset(source, project=started.project, name="planes")
    picture(tmp_path / "more" / "clip2_f9.jpg", 50)
    import_pictures(str(tmp_path / "more"), project=started.project)
    started.draw(started.task("clip2_f9.jpg")["id"], AIRPLANE)
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    pull(started.project)
    parts = {each.name: each.part for each in started.dataset().rows}
    assert parts["clip2_f9.jpg"] == "test" and parts["0000.jpg"] in ("train", "val", "test")


def test_nothing_is_written_when_a_picture_was_replaced(bucket_bench: Bench, tmp_path: Path) -> None:
    start(bucket_bench, tmp_path, 1)
    task = bucket_bench.task("0000.jpg")
    bucket_bench.draw(task["id"], AIRPLANE)
    other = picture(tmp_path / "other.jpg", 99)
    bucket, _, key = task["data"]["image"].removeprefix("s3://").partition("/")
    bucket_bench.store.bucket.client.fput_object(bucket, key, str(other))  # type: ignore[attr-defined]
    refused(bucket_bench, rf"task {task['id']}: .* {task['data']['image']} was replaced: .*{task['data']['sha256']}")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("http://127.0.0.1:9/a.jpg", "expected one that Label Studio or the store holds"),
        ("file:///etc/passwd", "expected one that Label Studio or the store holds"),
        ("/data/upload/1/gone.jpg", "cannot be fetched: answered"),
        ("/api/current-user/whoami", "expected one that Label Studio or the store holds"),
        ("/data/../api/current-user/whoami", "cannot be fetched|not a picture"),
        ("s3://nobody/a.jpg", "cannot be fetched: answered"),
    ],
)
def test_nothing_is_written_when_a_picture_cannot_be_fetched(started: Bench, image: str, message: str) -> None:
    """Anyone who may annotate may also make tasks: what they name is fetched from nowhere else."""
    made = started.label_studio.ask("POST", "/api/tasks/", json={"project": started.id, "data": {"image": image}})
    started.draw(made["id"], AIRPLANE)
    refused(started, message)


def test_the_export_is_repeated_when_somebody_draws_meanwhile(started: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, export and counts again never agree while each call finds another annotation."""
    task = started.task("0000.jpg")["id"]
    calls = [f"GET /api/projects/{started.id}", f"GET /api/projects/{started.id}/export"]
    drawing = True

    def draw(method: str, path: str) -> None:
        if drawing and f"{method} {path.partition('?')[0].rstrip('/')}" in calls:
            started.draw(task, AIRPLANE)

    with cutting(started.label_studio.url, draw, lambda: None) as address:
        monkeypatch.setenv("LABEL_STUDIO_URL", address)
        refused(started, r"the export has \d+ annotations and 0 skipped")
        drawing = False
        pull(started.project)
    assert started.boxes() == {"0000.jpg": [AIRPLANE]}


def test_the_project_is_asked_for_when_it_was_never_set_up(bench: Bench) -> None:
    with pytest.raises(NotSetUpError, match=bench.title):
        pull(bench.project)


def test_a_pull_request_proposes_the_version_when_enough_is_new(
    started: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real Git and a bare repository; the request itself is tests/unit/runner/forge/test_pull_request.py's."""
    for name in ("FORGE", "FORGE_TOKEN", "GITHUB_TOKEN", "GITHUB_API_URL", "GITHUB_REPOSITORY", "BRANCH"):
        monkeypatch.delenv(name, raising=False)
    started.set(labels={"min_new": 2})
    (started.project / ".gitignore").write_text(".work/\n")
    origin = tmp_path / "origin.git"

    git = partial(projects.git, started.project)
    git("init", "-q", "--bare", "-b", "main", str(origin))
    git("init", "-q", "-b", "main")
    git("config", "user.name", "Tests")
    git("config", "user.email", "tests@example.invalid")
    git("remote", "add", "origin", str(origin))
    git("add", "-A")
    git("commit", "-qm", "begin")
    git("push", "-q", "origin", "main")
    before = started.params
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    assert main(["labels", "pull", "--pull-request"]) == 0
    assert "no pull request: 1 pictures changed, labels.min_new is 2" in capsys.readouterr().out
    assert started.store.list("") == []
    started.draw(started.task("0001.jpg")["id"], HELICOPTER)
    assert main(["labels", "pull", "--pull-request"]) == 0
    assert "branch labels is pushed" in capsys.readouterr().out and started.params == before
    message = git("--git-dir", str(origin), "show", "-s", "--format=%B", "labels")
    assert message.startswith("Labels: 2 added\n") and "| boxes of helicopter | 0 | +1 |  |  | 1 |" in message
    assert "\n\n### Added (2)\n\n- 0000.jpg\n- 0001.jpg" in message
    (key,) = [key for key in started.store.list("datasets/") if key.endswith(".jsonl")]
    assert f"url: store:{key}" in git("--git-dir", str(origin), "show", "labels:params.yaml")
    (started.project / "params.yaml").write_text(before + "\n# mine\n")
    assert main(["labels", "pull", "--pull-request"]) == 1
    assert "params.yaml has uncommitted changes" in capsys.readouterr().err


def test_a_person_judges_the_pull_request_by_its_picture(
    started: Bench, tmp_path: Path, gitea: Gitea, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Label Studio and Gitea themselves; by way of the file that one container of the CronJob writes for the other."""
    started.set(labels={"min_new": 1})
    (started.project / ".gitignore").write_text(".work/\n")
    git = partial(projects.git, started.project)
    with gitea.repository() as (url, token):
        git("init", "-q", "-b", "main")
        git("config", "user.name", "Tests")
        git("config", "user.email", "tests@example.invalid")
        git("remote", "add", "origin", url)
        git("add", "-A")
        git("commit", "-qm", "begin")
        git("push", "-q", "--force", url.replace("//", f"//x:{token}@"), "main")
        for name in ("BRANCH", "GITHUB_API_URL", "GITHUB_REPOSITORY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("FORGE", "gitea")
        monkeypatch.setenv("FORGE_TOKEN", token)
        started.draw(started.task("0000.jpg")["id"], AIRPLANE)
        started.draw(started.task("0001.jpg")["id"], HELICOPTER)
        assert main(["labels", "pull", "--proposal", str(tmp_path / "proposal.json")]) == 0
        assert main(["labels", "propose", str(tmp_path / "proposal.json")]) == 0
        assert "opened: http" in capsys.readouterr().out
        (pull_request,) = gitea.ask("GET", f"/repos/{REPOSITORY}/pulls")
        text = pull_request["body"]
        assert "| boxes of helicopter | 0 | +1 |  |  | 1 |" in text and "| import | 2 | 0 |" in text
        assert "dev has no model yet" in text
        shown = re.search(r"!\[[^]]*\]\((.*?)\)", text)
        assert shown
        sheet = Image.open(io.BytesIO(gitea.fetch(shown[1], token)))
        assert sheet.format == "JPEG" and sheet.width > 2 * 220
        (changed,) = gitea.ask("GET", f"/repos/{REPOSITORY}/pulls/{pull_request['number']}/files")
        assert changed["filename"] == "params.yaml"
        (commit,) = gitea.ask("GET", f"/repos/{REPOSITORY}/pulls/{pull_request['number']}/commits")
        assert commit["author"]["login"] == "flywheel-bot"
        gitea.ask("POST", f"/repos/{REPOSITORY}/pulls/{pull_request['number']}/merge", {"Do": "merge"})
        assert "changes.jpg" not in {each["path"] for each in gitea.ask("GET", f"/repos/{REPOSITORY}/contents")}
