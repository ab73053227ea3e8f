"""`labels pull` on a real server: each of Label Studio's traps, and nothing written where something is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.__main__ import main
from runner.dataset.versions import add_dataset
from runner.errors import DatasetError, LabelStudioError
from runner.label_studio.intake import import_pictures
from runner.label_studio.pull import pull
from runner.label_studio.regions import Box
from runner.label_studio.setup import set_up
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench, labelled, picture, pictures
from tests.support.pictures import turned

EDGE = Box("airplane", (0.9, 0.5, 0.4, 0.2))


@pytest.fixture
def started(bench: Bench, tmp_path: Path) -> Bench:
    """A bench with three pictures to label."""
    return start(bench, tmp_path)


def start(bench: Bench, folder: Path, count: int = 3) -> Bench:
    set_up(bench.project)
    import_pictures(str(pictures(folder / "new", count)), project=bench.project)
    return bench


def refused(bench: Bench, message: str) -> None:
    """Assert that a pull says one thing and writes nothing."""
    before, keys = bench.params, bench.store.list("")
    with pytest.raises(LabelStudioError, match=message):
        pull(bench.project)
    assert (bench.params, bench.store.list("")) == (before, keys)


def test_there_is_no_dataset_when_nothing_was_annotated(started: Bench) -> None:
    before = started.params
    said = pull(started.project)
    assert said.startswith("3 tasks in Label Studio: 0 finished, 0 skipped")
    assert said.endswith("nothing is new") and started.params == before


def test_a_version_comes_out_when_pictures_were_annotated(either_bench: Bench, tmp_path: Path) -> None:
    """Pictures without a box are kept as background, and the second pull finds nothing new."""
    start(either_bench, tmp_path)
    either_bench.draw(either_bench.task("0000.jpg")["id"], AIRPLANE, HELICOPTER)
    either_bench.draw(either_bench.task("0001.jpg")["id"])
    said = pull(either_bench.project)
    assert "pictures             0       2      +2" in said and "params.yaml now names this version" in said
    assert either_bench.boxes() == {"0000.jpg": [AIRPLANE, HELICOPTER], "0001.jpg": []}
    assert either_bench.dataset().classes == ["airplane", "helicopter"]
    assert (either_bench.record()["added"], either_bench.record()["origins"]) == (2, {"import": 2})
    before = either_bench.params
    assert pull(either_bench.project).endswith("nothing is new")
    assert either_bench.params == before


def test_the_newest_counts_when_a_task_was_annotated_twice(started: Bench) -> None:
    task, other = started.task("0000.jpg")["id"], started.task("0001.jpg")["id"]
    first = started.draw(task, AIRPLANE)
    started.draw(task, HELICOPTER)
    started.draw(other, AIRPLANE)
    pull(started.project)
    assert started.boxes() == {"0000.jpg": [HELICOPTER], "0001.jpg": [AIRPLANE]}
    started.label_studio.ask("PATCH", f"/api/annotations/{first}/", json={"result": []})
    pull(started.project)
    assert started.boxes() == {"0000.jpg": [], "0001.jpg": [AIRPLANE]}


def test_a_skipped_task_stays_out_when_skipped_last(started: Bench) -> None:
    kept, out = started.task("0000.jpg")["id"], started.task("0001.jpg")["id"]
    started.draw(kept, cancelled=True)
    started.draw(kept, AIRPLANE)
    started.draw(out, AIRPLANE)
    started.draw(out, cancelled=True)
    assert "1 finished, 1 skipped" in pull(started.project)
    assert started.boxes() == {"0000.jpg": [AIRPLANE]}


def test_a_turned_box_becomes_the_box_around_it_or_is_refused(started: Bench) -> None:
    started.draw(started.task("0000.jpg")["id"], Box("airplane", (0.55, 0.5, 0.3, 0.2)), changes={"rotation": 30})
    started.set(labels={"rotated": "refuse"})
    refused(started, r"annotations to correct first.*\n.*task=\d+: region 1: turned by 30 degrees, expected an upright")
    started.set(labels={"rotated": "box"})
    assert "turned by 30 degrees, became the upright box around it" in pull(started.project)
    ((box,),) = started.boxes().values()
    x, y, w, h = box.xywhn
    assert (x - w / 2, y - h / 2, x + w / 2, y + h / 2) == pytest.approx((0.325, 0.4, 0.6598, 0.7732), abs=2e-4)


def test_a_box_is_clipped_when_drawn_over_the_edge(started: Bench) -> None:
    started.draw(started.task("0000.jpg")["id"], EDGE, Box("airplane", (1.5, 0.5, 0.2, 0.2)))
    said = pull(started.project)
    assert "reached over the edge of the picture, clipped" in said and "outside of the picture, left out" in said
    assert started.boxes() == {"0000.jpg": [Box("airplane", (0.85, 0.5, 0.3, 0.2))]}


def test_nothing_is_written_when_a_label_is_unknown(started: Bench) -> None:
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    started.draw(started.task("0001.jpg")["id"], Box("submarine", AIRPLANE.xywhn))
    started.draw(started.task("0002.jpg")["id"], AIRPLANE, changes={"rectanglelabels": []})
    refused(
        started, r"annotations to correct first; nothing was written \(2\):\n.*'submarine', expected one of airplane"
    )


def test_ids_are_in_the_configured_order_when_it_is_not_the_alphabet(bench: Bench, tmp_path: Path) -> None:
    bench.set(dataset={"classes": ["zeppelin", "airplane"]})
    start(bench, tmp_path, 2)
    bench.draw(bench.task("0000.jpg")["id"], AIRPLANE)
    pull(bench.project)
    (kept,) = bench.dataset().pictures
    assert (
        bench.dataset().classes == ["zeppelin", "airplane"] and kept.text == b"1 0.500000 0.500000 0.250000 0.250000\n"
    )
    bench.set(dataset={"classes": ["glider", "zeppelin", "airplane"]})
    set_up(bench.project)
    bench.draw(bench.task("0001.jpg")["id"], Box("glider", AIRPLANE.xywhn))
    pull(bench.project)
    assert [each.text.split()[0] for each in bench.dataset().pictures if each.text] == [b"2", b"0"]


def test_the_newest_counts_when_two_tasks_show_the_same_picture(started: Bench, tmp_path: Path) -> None:
    started.upload(tmp_path / "new" / "0000.jpg")
    (twin,) = [task for task in started.tasks() if "name" not in task["data"]]
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    started.draw(twin["id"], HELICOPTER)
    assert "2 finished, 0 skipped; 1 show a picture that another shows too" in pull(started.project)
    assert list(started.boxes().values()) == [[HELICOPTER]]


def test_pictures_come_through_label_studio_when_people_uploaded_them(either_bench: Bench, tmp_path: Path) -> None:
    set_up(either_bench.project)
    either_bench.upload(picture(tmp_path / "my own.jpg", 7))
    (task,) = either_bench.tasks()
    either_bench.draw(task["id"], AIRPLANE)
    pull(either_bench.project)
    assert either_bench.boxes() == {"my_own.jpg": [AIRPLANE]}
    (kept,) = either_bench.dataset().pictures
    assert kept.image.read_bytes() == (tmp_path / "my own.jpg").read_bytes()


def test_pictures_come_from_another_bucket_when_a_storage_has_it(
    bucket_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
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
    source = labelled(tmp_path / "dataset", labels)
    set_up(either_bench.project)
    assert "250 pictures: 250 new tasks (250 with the dataset's boxes)" in import_pictures(
        str(source), project=either_bench.project
    )
    assert "0 new tasks, 250 there already" in import_pictures(str(source), project=either_bench.project)
    assert "250 finished" in pull(either_bench.project)
    assert either_bench.boxes() == {name: [AIRPLANE] for name in labels}


def test_the_first_dataset_lives_on_when_others_are_annotated(either_bench: Bench, tmp_path: Path) -> None:
    """Its label files stay byte for byte, its licence and its background pictures too; it can be relabelled."""
    odd = "0 0.5 0.5 0.25 0.25 0.9\n1 .25 0.25000001 0.25 0.25\n"
    source = labelled(tmp_path / "first", {"a.jpg": odd, "b.jpg": "", "c.jpg": None, "d.jpg": "0 0.9 0.5 0.4 0.2\n"})
    (source / "LICENSE").write_text("of the pictures")
    add_dataset(source, project=either_bench.project, name="planes")
    set_up(either_bench.project)
    import_pictures(str(source), project=either_bench.project)
    assert pull(either_bench.project).endswith("nothing is new")
    import_pictures(str(pictures(tmp_path / "new", 2)), project=either_bench.project)
    either_bench.draw(either_bench.task("0001.jpg")["id"], HELICOPTER)
    either_bench.draw(either_bench.task("b.jpg")["id"], HELICOPTER)
    said = pull(either_bench.project)
    assert "added (1):\n  0001.jpg" in said and "relabelled (1):\n  b.jpg" in said
    after = either_bench.dataset()
    assert {each.name: each.text for each in after.pictures if each.name in "a.jpg c.jpg d.jpg"} == {
        "a.jpg": odd.encode(),
        "c.jpg": None,
        "d.jpg": b"0 0.9 0.5 0.4 0.2\n",
    }
    assert after.about["LICENSE"].read_text() == "of the pictures"
    assert either_bench.record()["origins"] == {"import": 1, "dataset": 1}


def test_pictures_stay_unless_a_removal_is_asked_for(started: Bench, tmp_path: Path) -> None:
    labels: dict[str, str | None] = {name: "0 0.5 0.5 0.25 0.25\n" for name in ("a.jpg", "b.jpg", "c.jpg")}
    source = labelled(tmp_path / "first", labels)
    add_dataset(source, project=started.project, name="planes")
    import_pictures(str(source), project=started.project)
    started.draw(started.task("a.jpg")["id"], cancelled=True)
    started.label_studio.ask("DELETE", f"/api/tasks/{started.task('b.jpg')['id']}/")
    said = pull(started.project)
    assert "2 pictures were skipped, or have no task any more; --remove takes them out" in said
    assert set(started.boxes()) == {"a.jpg", "b.jpg", "c.jpg"}
    said = pull(started.project, remove=True)
    assert "removed (2):\n  a.jpg\n  b.jpg" in said
    assert set(started.boxes()) == {"c.jpg"}


@pytest.mark.parametrize("frame", ["stored", "seen"])
def test_boxes_are_where_people_see_them_when_exif_turns_the_picture(bench: Bench, tmp_path: Path, frame: str) -> None:
    """Label Studio's editor shows the picture upright, so its percents are of that."""
    bench.set(prepare={"exif_boxes": frame})
    stored, seen = (0.3, 0.8, 0.2, 0.1), (0.2, 0.3, 0.1, 0.2)
    source = tmp_path / "first"
    (source / "images").mkdir(parents=True)
    (source / "labels").mkdir()
    (source / "classes.txt").write_text("airplane\nhelicopter\n")
    (source / "images" / "a.jpg").write_bytes(turned(6))
    kept = stored if frame == "stored" else seen
    (source / "labels" / "a.txt").write_text(f"0 {' '.join(map(str, kept))}\n")
    add_dataset(source, project=bench.project, name="planes")
    set_up(bench.project)
    import_pictures(str(source), project=bench.project)
    (region,) = bench.task("a.jpg")["annotations"][0]["result"]
    assert (region["original_width"], region["original_height"]) == (40, 30)
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == pytest.approx([15, 20, 10, 20])
    assert pull(bench.project).endswith("nothing is new")
    bench.draw(bench.task("a.jpg")["id"], Box("helicopter", seen))
    pull(bench.project)
    assert bench.boxes() == {"a.jpg": [Box("helicopter", kept)]}


def test_new_pictures_get_a_part_when_the_dataset_has_parts(started: Bench, tmp_path: Path) -> None:
    names = [f"clip{clip}_f{frame}.jpg" for clip in range(3) for frame in range(2)]
    source = labelled(tmp_path / "first", dict.fromkeys(names, "0 0.5 0.5 0.25 0.25\n"))
    for clip, part in enumerate(("train", "val", "test")):
        (source / f"{part}.txt").write_text("".join(f"images/clip{clip}_f{frame}.jpg\n" for frame in range(2)))
    started.set(split={"mode": "given", "group": "^(.*)_f"})
    add_dataset(source, project=started.project, name="planes")
    folder = tmp_path / "more"
    picture(folder / "clip2_f9.jpg", 50)
    import_pictures(str(folder), project=started.project)
    started.draw(started.task("clip2_f9.jpg")["id"], AIRPLANE)
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    pull(started.project)
    parts = {each.name: each.part for each in started.dataset().pictures}
    assert parts["clip2_f9.jpg"] == "test" and parts["0000.jpg"] in ("train", "val", "test")


def test_nothing_is_written_when_a_picture_was_replaced(bucket_bench: Bench, tmp_path: Path) -> None:
    start(bucket_bench, tmp_path, 1)
    task = bucket_bench.task("0000.jpg")
    bucket_bench.draw(task["id"], AIRPLANE)
    other = picture(tmp_path / "other.jpg", 99)
    bucket, _, key = task["data"]["image"].removeprefix("s3://").partition("/")
    bucket_bench.store.bucket.client.fput_object(bucket, key, str(other))  # type: ignore[attr-defined]
    refused(bucket_bench, r"task \d+: its picture s3://.* was replaced: its sha256 is .* when it became a task")


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
def test_nothing_is_written_when_a_picture_is_not_to_be_had(started: Bench, image: str, message: str) -> None:
    """Anyone who may annotate may also make tasks: what they name is fetched from nowhere else."""
    made = started.label_studio.ask("POST", "/api/tasks/", json={"project": started.id, "data": {"image": image}})
    started.draw(made["id"], AIRPLANE)
    refused(started, message)


def test_the_counts_are_compared_when_somebody_draws_meanwhile(started: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export of a server that counts otherwise is asked for again, and then refused."""
    from runner.label_studio import annotations

    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    monkeypatch.setattr(annotations, "_counted", lambda its: (2, 0))
    refused(started, r"the export has 1 annotations and 0 skipped, but it counts 2 and 0; nothing was written")


def test_the_dataset_is_missed_when_the_store_lost_it(started: Bench, tmp_path: Path) -> None:
    source = labelled(tmp_path / "first", {"a.jpg": "0 0.5 0.5 0.25 0.25\n"})
    add_dataset(source, project=started.project, name="planes")
    url = started.value("dataset", "url") or ""
    (Path(started.store.uri) / url.removeprefix("store:")).unlink()
    with pytest.raises(Exception, match=r"there is no datasets/planes/"):
        pull(started.project)


def test_a_picture_without_a_box_is_not_enough_when_there_is_no_other(started: Bench) -> None:
    started.draw(started.task("0000.jpg")["id"])
    with pytest.raises(DatasetError, match=r"not one of the 1 pictures has a good box"):
        pull(started.project)


def test_the_project_is_asked_for_when_it_was_never_set_up(bench: Bench) -> None:
    with pytest.raises(LabelStudioError, match=r"there is no project 'test .*`python -m runner labels setup` makes it"):
        pull(bench.project)


def test_a_pull_request_proposes_the_version_when_enough_is_new(
    started: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real Git and a bare repository; the request itself is tests/unit/runner/forge/test_pull_request.py's."""
    for name in ("GITHUB_TOKEN", "GITHUB_API_URL", "GITHUB_REPOSITORY", "BRANCH"):
        monkeypatch.delenv(name, raising=False)
    started.set(labels={"min_new": 2})
    (started.project / ".gitignore").write_text(".work/\n")
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", origin], check=True)
    for command in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "Tests"),
        ("config", "user.email", "tests@example.invalid"),
        ("remote", "add", "origin", str(origin)),
        ("add", "-A"),
        ("commit", "-qm", "begin"),
        ("push", "-q", "origin", "main"),
    ):
        subprocess.run(["git", *command], cwd=started.project, check=True)
    before = started.params
    monkeypatch.chdir(started.project)
    started.draw(started.task("0000.jpg")["id"], AIRPLANE)
    assert main(["labels", "pull", "--pull-request"]) == 0
    assert "no pull request: 1 are new, labels.min_new is 2" in capsys.readouterr().out
    assert started.store.list("") == []
    started.draw(started.task("0001.jpg")["id"], HELICOPTER)
    assert main(["labels", "pull", "--pull-request"]) == 0
    assert "branch labels is pushed" in capsys.readouterr().out and started.params == before
    show = ["git", "--git-dir", str(origin), "show", "-s", "--format=%B", "labels"]
    message = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert message.startswith("Labels: 2 added\n") and "| boxes of helicopter | 0 | 1 | +1 |" in message
    proposed = subprocess.run([*show[:3], "show", "labels:params.yaml"], capture_output=True, text=True, check=True)
    assert "url: store:datasets/" in proposed.stdout
    (key,) = [key for key in started.store.list("datasets/") if key.endswith(".zip")]
    assert key in proposed.stdout
    (started.project / "params.yaml").write_text(before + "\n# mine\n")
    assert main(["labels", "pull", "--pull-request"]) == 1
    assert "params.yaml has changes that are not committed" in capsys.readouterr().err
