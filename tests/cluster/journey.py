"""A newcomer's whole way, from a fork to a served model and back, by the pages' own lines: `make cluster-journey`.

It begins with an empty cluster, and with the steps of conftest.py, whose lines are held against gitops/README.md.
"""

import io
import zipfile
from base64 import b64decode

from ultralytics import YOLO

from tests.cluster.desk import Desk, blocks, get, the_store, typed, until
from tests.cluster.runs import assert_pinned_and_served, detect, ended, pins, rolled_out, run_of, served
from tests.support.pictures import encoded, gradient


def test_a_newcomer_gets_from_a_fork_to_a_served_model_and_back(settled: Desk) -> None:
    desk = settled
    assert not pins(desk), "the cluster has an installation; `make cluster-journey` begins with an empty one"

    bring_a_dataset_and_a_stock_model(desk)
    (first_run,) = blocks(desk.clone / "gitops/README.md", "8. `make first-run`", "\n## ")
    told = [desk.shell(line, fails=True) for line in typed(first_run)]
    assert "commit and push" in told[0]
    assert "baseline serves s3://flyingthings/models/yolo11n/1/manifest.json" in told[-1]
    assert "dev serves s3://flyingthings/models/flyingthings/1/manifest.json" in told[-1]
    assert detect()["model"]["version"] == "1"

    desk.pull()
    desk.shell("git branch --quiet --set-upstream-to=origin/main")
    change, look = blocks(desk.clone / "README.md", "**…let a commit retrain.**", "\n**…")
    before = pins(desk)
    for line in typed(change):
        desk.shell(line)
    commit = desk.shell("git rev-parse HEAD")
    run = run_of(commit)
    ended(run)
    number = assert_pinned_and_served(desk, commit, run, before)
    with the_store() as environment:
        for line in typed(look):
            desk.shell(line, environment=environment)
        told_of = desk.shell("python -m runner promote --to staging", environment=environment)
    assert f"staging/model.env now names flyingthings {number}" in told_of
    desk.push("Staging")
    desk.shell("git push --quiet origin HEAD:platform")
    until(lambda: staging() == str(number), 600, "staging serves it", every=2)

    bot = desk.shell("git log -1 --format=%H --grep ^Flywheel-Pin:")
    desk.shell(f"git revert --no-edit {bot} && git push --quiet origin HEAD:main")
    until(lambda: served().get("version") == 1, 600, "the former model", every=2)
    assert staging() == str(number)


def bring_a_dataset_and_a_stock_model(desk: Desk) -> None:
    """Put the two files that gitops/README.md names beside the clone's: pictures with a box each, and weights."""
    with zipfile.ZipFile(desk.clone / "flyingthings.zip", "w") as file:
        file.writestr("classes.txt", "airplane\nhelicopter\n")
        for number in range(24):
            file.writestr(f"images/{number:02}.jpg", encoded(gradient(96 + number, 64)))
            file.writestr(f"labels/{number:02}.txt", f"{number % 2} 0.5 0.5 0.{number + 20} 0.4\n")
    weights = io.BytesIO()
    YOLO("yolo11n.yaml", verbose=False).save(weights)
    (desk.clone / "yolo11n.pt").write_bytes(weights.getvalue())


def staging() -> str:
    """Return the version that staging answers with, once all of its Pods are new; else an empty string."""
    if not rolled_out("staging"):
        return ""
    data = get("secret", "model-api", "--namespace=flywheel-staging")["data"]
    return str(served("staging", b64decode(data["key"]).decode()).get("version", ""))
