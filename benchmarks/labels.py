"""How fast annotations become a version: `labels pull` beside Label Studio's own export in YOLO's format.

`python -m benchmarks labels` needs `make label-studio` and `make minio`. 1,000 annotated tasks, their pictures in
MinIO, everything on this machine. Whole commands are measured. The export is what the workshop unpacks by hand: it
writes pictures and labels and nothing else, where ours also digests, compares, checks and stores a version.

`--added 50 --pictures 10000` is what a small change of a large dataset costs: bytes are those between the command and
Label Studio and MinIO, both ways; Label Studio's share is the CPU time of its process meanwhile.
"""

import argparse
import shutil
import statistics
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.counting import ByteCounter, counting
from benchmarks.load import cpu_seconds
from benchmarks.pictures import dataset
from benchmarks.rounds import CORES, FOLDER, PROJECT, children_cpu_seconds, markdown, ratio, runner, spread
from tests.support.annotating import SIZE
from tests.support.label_studio import LabelStudio, labelling
from tests.support.projects import set_params
from tests.support.s3 import serving_s3

TITLE = "benchmark"
NAMES = ("pull of everything", "pull with one change", "pull with nothing new", "Label Studio's export, unpacked")


def project(folder: Path) -> str:
    """Write conf/ and params.yaml, without a dataset; return the text of params.yaml."""
    shutil.copytree(PROJECT / "conf", folder / "conf")
    shutil.copy(PROJECT / "params.yaml", folder)
    set_params(folder, {"labels": {"title": TITLE}, "dataset": {"classes": ["thing"]}})
    return (folder / "params.yaml").read_text(encoding="utf-8")


def change(server: LabelStudio, number: int) -> None:
    """Annotate one task again, as a user would."""
    (found,) = server.ask("GET", "/api/projects/", params={"title": TITLE})["results"]
    options = {"project": found["id"], "page": number + 1, "page_size": 1}
    (task,) = server.ask("GET", "/api/tasks/", params=options)["tasks"]
    value = {"x": number, "y": 10, "width": 10, "height": 10, "rotation": 0, "rectanglelabels": ["thing"]}
    region = {"id": "a", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value}
    size = {"original_width": SIZE[0], "original_height": SIZE[1]}
    server.ask("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": [region | size]})


def export(server: LabelStudio, folder: Path, tasks: int) -> float:
    """Export pictures and labels from Label Studio and unpack them; return the seconds.

    Raises:
        RuntimeError: pictures are missing, which Label Studio does not report.
    """
    (found,) = server.ask("GET", "/api/projects/", params={"title": TITLE})["results"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = time.perf_counter()
    url = f"{server.url}/api/projects/{found['id']}/export?exportType=YOLO_WITH_IMAGES"
    headers, packed = {"Authorization": f"Token {server.token}"}, folder / "export.zip"
    with httpx.stream("GET", url, headers=headers, timeout=600) as answer, packed.open("wb") as file:
        for chunk in answer.iter_bytes():
            file.write(chunk)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder / "datasets")
    seconds = time.perf_counter() - start
    if (came := len(list((folder / "datasets/images").iterdir()))) != tasks:
        raise RuntimeError(f"Label Studio exported {came} of {tasks} pictures")
    return seconds


class Ran(NamedTuple):
    """A whole command: seconds, CPU seconds of its own and of Label Studio meanwhile, and bytes sent and received."""

    seconds: float
    cpu: float
    label_studio: float
    bytes: int


def counted(folder: Path, environment: dict[str, str], counters: Sequence[ByteCounter], server: LabelStudio) -> Ran:
    """Run a pull through the counters."""
    assert server.process
    pid, own = server.process.pid, children_cpu_seconds()
    started = cpu_seconds(pid)
    for counter in counters:
        counter.taken()
    seconds = runner(folder, "labels", "pull", **environment)
    sent = sum(counter.taken() for counter in counters)
    return Ran(seconds, children_cpu_seconds() - own, cpu_seconds(pid) - started, sent)


def added_to_many(pictures: int, added: int, rounds: int, folder: Path) -> str:
    """Return Markdown: pulls of everything, of a few new pictures, and of nothing new, each with its bytes."""
    runs: dict[str, list[Ran]] = {name: [] for name in ("everything", f"{added} new pictures", "nothing new")}
    dataset(folder / "first", pictures, 320, 240)
    with serving_s3("minio", folder / "minio") as minio, labelling(folder / "label-studio") as server:
        environment = minio.bucket() | server.environment
        text = project(folder / "project")
        runner(folder / "project", "labels", "setup", **environment)
        runner(folder / "project", "labels", "import", str(folder / "first"), **environment)
        with counting(server.url) as labels, counting(minio.url) as store:
            through = environment | {"LABEL_STUDIO_URL": labels.url, "AWS_ENDPOINT_URL": store.url}
            pull = partial(counted, folder / "project", through, (labels, store), server)
            for number in range(rounds):
                (folder / "project/params.yaml").write_text(text, encoding="utf-8")
                runs["everything"].append(pull())
                shutil.rmtree(folder / "new", ignore_errors=True)
                dataset(folder / "new", added, 320, 240, start=pictures + number * added)
                runner(folder / "project", "labels", "import", str(folder / "new"), **environment)
                runs[f"{added} new pictures"].append(pull())
                runs["nothing new"].append(pull())
    rows = []
    for name, each in runs.items():
        seconds, own, theirs, sent = (statistics.median(column) for column in zip(*each, strict=True))
        whole = runs["everything"]
        cpu = ratio((one.cpu + one.label_studio for one in each), (one.cpu + one.label_studio for one in whole))
        size = ratio((one.bytes for one in each), (one.bytes for one in whole))
        figures = [f"{seconds:.1f}", f"{own:.1f}", f"{theirs:.1f}", f"{cpu:.1%}", f"{sent / 1e6:.2f}", f"{size:.2%}"]
        rows.append([name, *figures])
    head = [f"`labels pull` of {pictures:,} tasks", "s", "CPU s, own", "Label Studio's", "both, ratio", "MB", "ratio"]
    return markdown(head, rows, f"320x240, {CORES} cores, {rounds} rounds")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--added", type=int, default=0, help="measure this many new pictures instead")
    options = parser.parse_args(arguments)
    folder = FOLDER / "labels"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if options.added:
        print(added_to_many(options.pictures, options.added, options.rounds, folder))
        shutil.rmtree(folder)
        return
    dataset(folder / "first", options.pictures, 640, 480)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    with serving_s3("minio", folder / "minio") as minio, labelling(folder / "label-studio") as server:
        environment = minio.bucket() | server.environment
        text = project(folder / "project")
        runner(folder / "project", "labels", "setup", **environment)
        imported = runner(folder / "project", "labels", "import", str(folder / "first"), **environment)
        pull = partial(runner, folder / "project", "labels", "pull", **environment)
        for number in range(options.rounds):
            (folder / "project/params.yaml").write_text(text, encoding="utf-8")
            everything, one, nothing, theirs = NAMES
            seconds[everything].append(pull())
            change(server, number)
            seconds[one].append(pull())
            seconds[nothing].append(pull())
            seconds[theirs].append(export(server, folder / "export", options.pictures))
    size = sum(file.stat().st_size for file in (folder / "first/images").iterdir()) / 1e6
    print(f"{options.pictures:,} annotated pictures of 640x480, {size:.0f} MB; imported in {imported:.1f} s\n")
    rows = [
        [name, f"{statistics.median(each):.1f}", spread(each, 1), f"{ratio(each, seconds[NAMES[-1]]):.2f}"]
        for name, each in seconds.items()
    ]
    head = ["", "seconds, median", "range", "÷ the export"]
    print(markdown(head, rows, f"{CORES} cores, {options.rounds} rounds"))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
