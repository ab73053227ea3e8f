"""Tasks on a run's data, each one process, as every start of DVC takes a second or two.

Tasks share no disk. Data pass through DVC's remote and its run cache; params.yaml, dvc.lock, the verdict and the staged
release through `pipeline/<run>/` in the store, where each Task overwrites those of the Tasks before it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from runner.config.compose import compose
from runner.dataset.entries import read_entries
from runner.dataset.picture_cache import cache_folder
from runner.errors import ObjectError, StageError
from runner.release.verdict import verdict_file
from runner.stages.device import ALL, check_gpus
from runner.stages.registry import picture_files
from runner.store import Store, open_store
from runner.store.published import numbers, version_key
from runner.store.use import use_store
from runner.workspace import ARTIFACTS, PARAMS, work_folder, writing

LOCK = "dvc.lock"
_RELEASED = ("report", "split", "model", "export", "evaluation")  # outputs that a version is made of
_FREE_SHARE = 0.2  # of the cache's volume before a training


def plan(run: str, values: Sequence[str], *, gpus: int) -> str:
    """Return train, gate-only or nothing; nothing only when the store has a version of these results.

    `values` are KEY=VALUE, for this run alone; `gpus` are those that a training would take. ConfigError when
    params.yaml, conf/ or a value is wrong; StageError when the image has other packages than the commit pins, or the
    GPUs cannot share the batch.
    """
    from runner.config.override import override
    from runner.pipeline.packages import check_image
    from runner.pipeline.plan import make_plan

    check_image(Path.cwd())
    if values:
        override(Path.cwd(), values, "started by hand with")
        print(f"params.yaml of this run: {' '.join(values)}", flush=True)
    with _handing_on(run) as store:
        made = make_plan(Path.cwd(), remote=True)
        if made.answer == "nothing" and not _is_published(store, Path.cwd()):
            made = made._replace(gate=(*made.gate, f"{store.uri} has no version with the results of {LOCK}"))
        print(made.as_text(), flush=True)
        if made.answer == "train":
            config, _ = compose(Path.cwd())
            check_gpus(gpus, config.train.batch, config.model.trainer)
    return made.answer


def _is_published(store: Store, project: Path) -> bool:
    """Whether the store has a version of dvc.lock's results with a commit's values: a trial's verdict differs."""
    config, _ = compose(project)
    results = _results((project / LOCK).read_bytes())
    for number in reversed(numbers(store, config.model.name)):
        with suppress(ObjectError):
            is_trial = "trial" in json.loads(store.read(version_key(config.model.name, number)))
            if not is_trial and _results(store.read(f"runs/{config.model.name}/{number}/{LOCK}")) == results:
                return True
    return False


def _results(lock: bytes) -> dict[str, str]:
    """Return path → digest of the model and its metrics."""
    stages: dict[str, dict[str, list[dict[str, str]]]] = yaml.safe_load(lock)["stages"]
    wanted = {str(ARTIFACTS / name) for name in ("model", "export", "evaluation")}
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if out["path"] in wanted}


def prepare(run: str) -> None:
    """Fetch, check and split the pictures."""
    with _handing_on(run):
        _dvc("repro", "--pull", "split")
        _dvc("push", "--run-cache", "compose", "fetch", "prepare", "split")
        print(_share_pictures(), flush=True)


def _share_pictures() -> str:
    return picture_files().share(read_entries(ARTIFACTS / "dataset"))


def train(run: str, *, cache: Path, fallback: bool) -> None:
    """Train; earlier stages are not run, only their outputs fetched.

    Export and evaluate need no GPU: they are left to `gate`. `cache` is DVC's; `fallback` sets the limits for a
    training that wanted a GPU and got none.
    """
    from runner.config.override import limit

    os.environ["RUNNER_DEVICE"] = ALL  # those that the Pod was given
    with _handing_on(run), _using(cache):
        if fallback:
            print(f"no GPU came: {' '.join(limit(Path.cwd()))}", flush=True)
        _dvc("cache", "dir", "--local", str(cache))
        _dvc("repro", "--pull", "compose")
        _dvc("pull", *_made_before("train"))  # without them `--single-item` takes the stage for unchanged
        _dvc("repro", "--pull", "--single-item", "train")
        _dvc("push", "--run-cache", "compose", "train")


def _made_before(name: str) -> list[str]:
    """Return the dependencies of a stage of dvc.yaml that stages before it make, but for the configuration."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    folder = f"{ARTIFACTS / 'config'}/"
    return [dep for dep in stages[name]["deps"] if dep.startswith(f"{ARTIFACTS}/") and not dep.startswith(folder)]


@contextmanager
def _using(cache: Path) -> Iterator[None]:
    """Keep other runs from emptying DVC's cache until the block ends; first make room, unless another run uses it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with (cache.parent / f"{cache.name}.used").open("ab") as used:
        try:
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            room = shutil.disk_usage(cache.parent)
            if cache.is_dir() and room.free < room.total * _FREE_SHARE:
                print(f"{cache}: emptied, as {room.free >> 20:,} MiB are free; what is needed is fetched", flush=True)
                shutil.rmtree(cache)
                shutil.rmtree(cache_folder(work_folder()), ignore_errors=True)
        except BlockingIOError:
            print(f"{cache}: another run uses it too", flush=True)
        fcntl.flock(used, fcntl.LOCK_SH)
        yield


def gate(run: str) -> str:
    """Export, measure and judge the model, and stage it: run the stages after train unless the store has their results.

    Returns the sha256 of what was staged, in hex, by which publish and pin know it.
    Before it is staged the store has all that it is made of, so that Git never names what the store lacks.
    """
    from runner.release.contents import releasing
    from runner.release.gate import gate as judge
    from runner.release.staging import stage
    from runner.release.verdict import verdict_text

    with _handing_on(run) as store:
        _reproduce()
        print(verdict_text(judge(Path.cwd())), flush=True)
        for command in ("pull", "push"):
            _dvc(command, *(str(ARTIFACTS / name) for name in _RELEASED))
        with releasing(Path.cwd()) as release:
            return stage(store, release, run)


def validate(run: str) -> str:
    """Export the model of a trial and measure it on val; return its figures as JSON. Test is left alone."""
    from runner.pipeline.validation import measure_val

    with _handing_on(run):
        _reproduce("export")
        _dvc("pull", *(str(ARTIFACTS / name) for name in ("dataset", "split", "export")))
        figures = json.dumps(measure_val(Path.cwd()))
    print(f"on val: {figures}", flush=True)
    return figures


def publish(run: str, release: str, revision: str, *, is_trial: bool) -> dict[str, str]:
    """Publish as a version what `gate` staged, after checking it; no code and no file of the commit is used.

    `release` is what `gate` returned.

    The results are model, version, and pin_mode: push or pull-request.
    """
    from runner.release.publish import publish as publish_release
    from runner.release.staging import staged

    store = open_store(Path.cwd())
    with staged(store, run, release, commit=revision, is_trial=is_trial) as content:
        mode = str(content.manifest.params["pin"]["mode"])
        published = publish_release(store, content)
    print(published.as_text(), flush=True)
    version = published.version
    return {"model": version.model, "version": str(version.number), "pin_mode": mode}


def _reproduce(*stages: str) -> None:
    """Bring stages, by default all, and those before them up to date; push results that are new."""
    lock = Path(LOCK)
    before = lock.read_bytes() if lock.is_file() else b""
    _dvc("repro", "--pull", *stages)
    if lock.read_bytes() != before:
        _dvc("push", "--run-cache", *stages)


@contextmanager
def _handing_on(run: str) -> Iterator[Store]:
    """Give the store, and to the project the files of earlier Tasks; when the block ends, give them to later ones."""
    store = open_store(Path.cwd())
    print(use_store(Path.cwd()), flush=True)
    files = {f"pipeline/{run}/{file.name}": file for file in (PARAMS, Path(LOCK), verdict_file(work_folder()))}
    there = files.keys() & store.list(f"pipeline/{run}/")
    for key in there:
        with writing(files[key]) as temporary:
            temporary.write_bytes(store.read(key))
    print(f"from earlier Tasks: {', '.join(sorted(there)) or 'nothing'}", flush=True)
    yield store
    given = {key: file for key, file in files.items() if file.is_file()}
    for key, file in given.items():
        store.replace(key, file.read_bytes())
    print(f"to later Tasks: {', '.join(given) or 'nothing'}", flush=True)


def _dvc(*arguments: str) -> None:
    """Run a DVC command in this process; StageError when it fails, with its output in the log."""
    from dvc.cli import main

    from runner.pipeline.stage_cache import keyed_run_cache

    command = f"dvc {' '.join(arguments)}"
    print(f"$ {command}", flush=True)
    with keyed_run_cache():
        status = main(list(arguments))
    if status:
        raise StageError(f"{command} failed with exit status {status}; its output above has the reason")
