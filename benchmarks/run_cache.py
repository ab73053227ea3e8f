"""What `dvc repro --pull` and `dvc push --run-cache` cost once the store has the run cache of thousands of runs.

`python -m benchmarks run_cache` needs MinIO (`make minio`). In each new clone all stages are in the run cache, so that
nothing but DVC is measured: as Tasks call it, with the entries of one run and of many, and by its own command with few.
"""

import argparse
import hashlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.rounds import FOLDER, in_turn, runner, table, took
from tests.support.s3 import S3, serving_s3

STAGES = 8  # entries of a run
TASK = "import sys; from runner.retrain.tasks import _dvc; _dvc(*sys.argv[1:])"
HERE = FOLDER / "run-cache"


def clone(environment: dict[str, str]) -> Path:
    """Return a new project whose stages follow one another."""
    folder = HERE / "clone"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    remote = store\n")
    (folder / "params.yaml").write_text("a: 1\n")
    lines = ["stages:"]
    for number in range(STAGES):
        before = f"out{number - 1}" if number else "params.yaml"
        lines += [f"  s{number}:", f"    cmd: echo {number} > out{number}"]
        lines += [f"    deps: [{before}]", f"    outs: [out{number}]"]
    (folder / "dvc.yaml").write_text("\n".join([*lines, ""]))
    runner(folder, "store", "use", **environment)
    return folder


def filled(server: S3, runs: int) -> dict[str, str]:
    """Return what names a bucket with the entries of some runs, one of which is that of `clone`."""
    environment, client = server.bucket(), server.client()
    folder, bucket = clone(environment), environment["STORE_URI"].removeprefix("s3://")
    for command in (("repro",), ("push", "--run-cache")):
        took(sys.executable, "-m", "dvc", *command, cwd=folder, **environment)
    key = next(iter(client.list_objects(bucket, "dvc/runs/", recursive=True))).object_name
    content = client.get_object(bucket, str(key)).read()

    def plant(number: int) -> None:
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        server.put(bucket, f"dvc/runs/{digest[:2]}/{digest}/{digest[::-1]}", content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(plant, range((runs - 1) * STAGES)))
    return environment


def pull_and_push(environment: dict[str, str], *dvc: str) -> float:
    """Return the seconds of both in a new clone."""
    folder = clone(environment)
    return sum(
        took(sys.executable, *dvc, *command, cwd=folder, **environment)
        for command in (("repro", "--pull"), ("push", "--run-cache"))
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks run_cache", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--few", type=int, default=200, help="runs for DVC's own command")
    options = parser.parse_args(arguments)
    shutil.rmtree(HERE, ignore_errors=True)
    with serving_s3("minio", HERE / "minio") as server:
        contestants = {}
        for runs, name, dvc in (
            (1, "a Task", ("-c", TASK)),
            (options.runs, "a Task", ("-c", TASK)),
            (options.few, "`dvc` itself", ("-m", "dvc")),
        ):
            title = f"{name}, {runs:,} runs with {runs * STAGES:,} entries"
            contestants[title] = partial(pull_and_push, filled(server, runs), *dvc)
        print(table("both commands", in_turn(contestants, options.rounds)))
    shutil.rmtree(HERE)


if __name__ == "__main__":
    main()
