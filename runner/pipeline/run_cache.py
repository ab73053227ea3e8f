"""DVC's run cache: results of stages that ran on the same inputs before, here or elsewhere.

`dvc repro` looks there before it runs a stage. The plan must too, or a second run of a commit would request a GPU. The
keys are DVC's own (dvc/stage/cache.py): a digest of a stage's command, its dependencies' digests and its outputs'
paths. A dependency that another stage makes need not be here: dvc.lock or that stage's cached run has its digest.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

COMPOSE = "compose"  # runs in an instant, needs no cache
Outputs = Mapping[str, str]  # path of an output → md5 of its content


def ask_remote(repo: "Repo") -> str:
    """Look for entries of the run cache in the DVC remote too, from now on; return the error, else ""."""
    from runner.pipeline.stage_cache import KeyedStageCache

    repo.stage_cache = KeyedStageCache(repo)
    try:
        repo.stage_cache.pull(None)
    except _remote_errors() as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def cached_stages(
    repo: "Repo", order: Iterable[str], locked: Mapping[str, Outputs], composed: Outputs, *, remote: bool
) -> frozenset[str]:
    """Return the stages with a cached result for the current inputs, and outputs that can be fetched.

    `order` has all stages, topologically; `locked` the outputs of those up to date, `composed` those of `compose` now.
    `remote`: outputs may be in the DVC remote; else they must be in the local cache.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    stages: dict[str, PipelineStage] = {stage.name: stage for stage in repo.index.stages}
    made = {out.def_path for stage in stages.values() for out in stage.outs}
    digests, cached = dict(composed), set()
    for name in order:
        stage = stages[name]
        if name in locked:
            digests |= locked[name]
            continue
        if name == COMPOSE:
            continue
        for dep in stage.deps:
            if dep.def_path in made:
                dep.hash_info, dep.meta = HashInfo("md5", digests.get(dep.def_path)), Meta()
        if not all(dep.hash_info for dep in stage.deps if dep.def_path in made):
            continue  # it depends on a stage that must run first, with unknown outputs
        entry = _entry(repo, stage, made, remote=remote)
        if entry is None:
            continue
        digests |= {out["path"]: out["md5"] for out in entry["outs"]}
        if _outputs_are_there(repo, stage, entry, remote=remote):
            cached.add(name)
    return frozenset(cached)


def lacks_outputs(repo: "Repo", name: str) -> bool:
    """Whether a stage's outputs in dvc.lock are neither here nor in the DVC remote; False if it does not answer."""
    from dvc_objects.errors import ObjectFormatError

    (stage,) = (stage for stage in repo.index.stages if stage.name == name)
    if stage.outs_cached():
        return False
    try:
        return not all(_remote_has(repo, out.hash_info) for out in stage.outs)
    except (FileNotFoundError, ObjectFormatError):  # the list of a folder output
        return True
    except _remote_errors() as error:
        print(f"the store was not asked for the outputs of {name}: {error}", flush=True)
        return False


def _entry(repo: "Repo", stage: "PipelineStage", made: set[str], *, remote: bool) -> dict[str, Any] | None:
    """Return DVC's cache entry for a stage with these inputs; DVC's own look-up needs them all to be here."""
    from dvc.exceptions import DvcException
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    try:
        for dep in stage.deps:
            if dep.def_path not in made:
                dep.save()
    except DvcException:  # a dependency is missing
        return None
    key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
    if remote:
        repo.stage_cache.fetch(key)
    folder = Path(repo.stage_cache._get_cache_dir(key))
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime) if folder.is_dir() else []
    entry: dict[str, Any] | None = repo.stage_cache._load_cache(key, files[-1].name) if files else None
    return entry


def _outputs_are_there(repo: "Repo", stage: "PipelineStage", entry: dict[str, Any], *, remote: bool) -> bool:
    """Whether a cached stage's outputs are here or in the remote; False if that does not answer."""
    from dvc_objects.errors import ObjectFormatError

    known = repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    failures: tuple[type[Exception], ...] = (*_remote_errors(), ObjectFormatError)
    try:
        return known.outs_cached() or (remote and all(_remote_has(repo, out.hash_info) for out in known.outs))
    except failures:
        return False


def _remote_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a DVC remote; importing them takes long."""
    from botocore.exceptions import BotoCoreError
    from dvc.exceptions import DvcException

    return DvcException, BotoCoreError, OSError


def _remote_has(repo: "Repo", digest: Any) -> bool:
    """Whether the remote has an output: a file, or a folder's list and every file in it."""
    from dvc_data.hashfile import load

    odb: Any = repo.cloud.get_remote_odb(None, "plan")
    listed: Any = load(odb, digest) if digest.isdir else ()
    wanted = {digest.value, *(content.value for _, _, content in listed)}
    return wanted <= set(odb.oids_exist(list(wanted)))
