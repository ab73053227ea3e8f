"""How fast annotations become a version: `labels pull` beside Label Studio's own export in YOLO's format.

`python -m benchmarks labels` needs `make label-studio` and `make minio`. 1,000 annotated tasks, their pictures in
MinIO, everything on this machine. Whole commands are measured. The export is what the workshop unpacks by hand: it
writes pictures and labels and nothing else, where ours also digests, compares, checks and stores a version.

`--added 50 --pictures 10000` is what a small change of a large dataset costs: bytes are those between the command and
Label Studio and MinIO, both ways; Label Studio's share is the CPU time of its process meanwhile.
"""

import argparse
import resource
import shutil
import statistics
import sys
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from benchmarks.counting import ByteCounter, counting
from benchmarks.pictures import dataset
from benchmarks.rounds import CORES, FOLDER, PROJECT, took
from tests.support.annotating import SIZE
from tests.support.label_studio import LabelStudio, labelling
from tests.support.projects import set_params
from tests.support.s3 import serving_s3

TITLE = "benchmark"
NAMES = ("pull of everything", "pull with one change", "pull with nothing new", "Label Studio's export, unpacked")


def ours(folder: Path, environment: dict[str, str], *arguments: str) -> float:
    """Run a command in the project; return its seconds."""
    return took(sys.executable, "-m", "runner", *arguments, cwd=folder, PYTHONPATH=str(PROJECT), **environment)


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
    started, own = _cpu_seconds(server), _cpu_of_children()
    for counter in counters:
        counter.taken()
    seconds = ours(folder, environment, "labels", "pull")
    sent = sum(counter.taken() for counter in counters)
    return Ran(seconds, _cpu_of_children() - own, _cpu_seconds(server) - started, sent)


def _cpu_of_children() -> float:
    """Return the CPU seconds of all ended commands; the servers still run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_seconds(server: LabelStudio) -> float:
    if server.process is None:
        raise RuntimeError("Label Studio is not running")
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def added_to_many(pictures: int, added: int, rounds: int, folder: Path) -> str:
    """Return Markdown: pulls of everything, of a few new pictures, and of nothing new, each with its bytes."""
    runs: dict[str, list[Ran]] = {name: [] for name in ("everything", f"{added} new pictures", "nothing new")}
    dataset(folder / "first", pictures, 320, 240)
    with serving_s3("minio", folder / "minio") as minio, labelling(folder / "label-studio") as server:
        environment = minio.bucket() | server.environment
        text = project(folder / "project")
        ours(folder / "project", environment, "labels", "setup")
        ours(folder / "project", environment, "labels", "import", str(folder / "first"))
        with counting(server.url) as labels, counting(minio.url) as store:
            through = environment | {"LABEL_STUDIO_URL": labels.url, "AWS_ENDPOINT_URL": store.url}
            pull = partial(counted, folder / "project", through, (labels, store), server)
            for number in range(rounds):
                (folder / "project/params.yaml").write_text(text, encoding="utf-8")
                runs["everything"].append(pull())
                shutil.rmtree(folder / "new", ignore_errors=True)
                dataset(folder / "new", added, 320, 240, start=pictures + number * added)
                ours(folder / "project", environment, "labels", "import", str(folder / "new"))
                runs[f"{added} new pictures"].append(pull())
                runs["nothing new"].append(pull())
    lines = [
        f"| `labels pull` of {pictures:,} tasks | s | CPU s, own | Label Studio's | both, ratio | MB | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in runs.items():
        seconds, own, theirs, sent = (statistics.median(column) for column in zip(*each, strict=True))
        whole = list(zip(each, runs["everything"], strict=True))
        cpu = statistics.median((one.cpu + one.label_studio) / (all_.cpu + all_.label_studio) for one, all_ in whole)
        size = statistics.median(one.bytes / all_.bytes for one, all_ in whole)
        lines.append(
            f"| {name} | {seconds:.1f} | {own:.1f} | {theirs:.1f} | {cpu:.1%} | {sent / 1e6:.2f} | {size:.2%} |"
        )
    return "\n".join([*lines, "", f"320x240, {CORES} cores, {rounds} rounds"])


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
        ours(folder / "project", environment, "labels", "setup")
        imported = ours(folder / "project", environment, "labels", "import", str(folder / "first"))
        for number in range(options.rounds):
            (folder / "project/params.yaml").write_text(text, encoding="utf-8")
            everything, one, nothing, theirs = NAMES
            seconds[everything].append(ours(folder / "project", environment, "labels", "pull"))
            change(server, number)
            seconds[one].append(ours(folder / "project", environment, "labels", "pull"))
            seconds[nothing].append(ours(folder / "project", environment, "labels", "pull"))
            seconds[theirs].append(export(server, folder / "export", options.pictures))
    size = sum(file.stat().st_size for file in (folder / "first/images").iterdir()) / 1e6
    print(f"{options.pictures:,} annotated pictures of 640x480, {size:.0f} MB; imported in {imported:.1f} s\n")
    print("| | seconds, median | range | ÷ the export |\n|---|---|---|---|")
    for name, each in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(each, seconds[NAMES[-1]], strict=True))
        print(f"| {name} | {statistics.median(each):.1f} | {min(each):.1f}-{max(each):.1f} | {ratio:.2f} |")
    print(f"\n{CORES} cores, {options.rounds} rounds")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
