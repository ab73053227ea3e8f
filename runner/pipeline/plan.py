"""Plan: the stages that `dvc repro` would run and the keys that cause it, without running any.

`dvc repro --dry` needs every output to be here, so the plan composes in memory, asks `dvc status` about the
repository's files, and follows dvc.yaml from the changes. Missing data are no change. The answer is an upper bound: the
stages after one whose output comes out the same do not run. Nor does a stage whose result the run cache has
(runner/pipeline/run_cache.py).

dvc.lock: https://dvc.org/doc/user-guide/project-structure/dvcyaml-files#dvclock-file
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from runner.config.compose import compose, leaves, stage_text
from runner.config.explain import not_yaml
from runner.config.schema import Config
from runner.errors import ConfigError, StageError
from runner.pipeline.run_cache import COMPOSE, ask_remote, cached_stages, lacks_outputs
from runner.pipeline.sources import paths
from runner.workspace import ARTIFACTS, LOCK

if TYPE_CHECKING:
    from dvc.repo import Repo

PIPELINE = Path("dvc.yaml")
TRAIN = "train"
IN_WORDS = {
    TRAIN: "train a model",
    "gate-only": "measure or judge the model that exists, without a training",
    "nothing": "no training and no new verdict",
}
GATE = ARTIFACTS / "config" / "gate.yaml"
Entry = dict[str, Any]  # a stage in dvc.yaml or dvc.lock


class Plan(NamedTuple):
    """Stages whose inputs differ from dvc.lock."""

    reasons: dict[str, list[str]]  # stage → reasons why it is not up to date; in order
    stages: list[str]  # all, in order
    cached: frozenset[str] = frozenset()  # those with reasons whose result is in the run cache
    gate: tuple[str, ...] = ()  # changed keys of the gate and the pin, on which no stage depends

    @property
    def answer(self) -> str:
        """`train`, `gate-only` (the model exists) or `nothing`."""
        if TRAIN in self.reasons and TRAIN not in self.cached:
            return "train"
        return "gate-only" if self.gate or self.reasons.keys() - {COMPOSE} else "nothing"

    def as_text(self) -> str:
        """Return a line for each stage, and the answer in words."""
        width = max(map(len, self.stages))
        lines = [f"{name:{width}}  {self._why(name)}" for name in self.stages]
        lines += [f"{'gate':{width}}  {'; '.join(self.gate)}"] if self.gate else []
        count = len(self.reasons.keys() - self.cached)
        lines.append(f"at most {count} of {len(self.stages)} stages would run" if count else "no stage would run")
        return "\n".join([*lines, f"answer: {IN_WORDS[self.answer]}"])

    def as_json(self) -> str:
        """Return the answer, the reasons and the cached stages as JSON."""
        content = {"answer": self.answer, "reasons": self.reasons, "cached": sorted(self.cached), "gate": self.gate}
        return json.dumps(content, indent=2, ensure_ascii=False)

    def _why(self, stage: str) -> str:
        return "; ".join(self.reasons.get(stage, ["-"])) + (" (in the run cache)" if stage in self.cached else "")


def make_plan(project: Path, *, remote: bool = False) -> Plan:
    """Return the plan of `dvc repro` in a project, whose data need not be here; StageError if DVC refuses.

    `remote`: look into the run cache of the DVC remote too, and count a training, or a stage after it, whose result is
    not there as one that would run. An unreachable remote is reported and ignored.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    project = project.resolve()
    config, _ = compose(project)
    pipeline, lock = read_stages(project, PIPELINE), read_stages(project, LOCK)
    reasons: dict[str, list[str]] = {}
    try:
        with chdir(project), Repo() as repo:  # DVC's paths are relative to the current folder
            why_not = ask_remote(repo) if remote else ""
            if why_not:
                print(f"the run cache of the store was not asked: {why_not}", flush=True)
            status = _by_stage(repo.status())
            producers = {path: name for name, entry in pipeline.items() for path in paths(entry, "outs")}
            before = {
                name: [producers[path] for path in paths(entry, "deps") if path in producers]
                for name, entry in pipeline.items()
            }
            order = list(TopologicalSorter(before).static_order())
            changes = _Changes(project, repo, config, pipeline, producers, lock, status)
            kept = {TRAIN} if remote and not why_not else set()  # and the stages after it
            for stage in order:
                if not kept.isdisjoint(before[stage]):
                    kept.add(stage)
                why = changes.reasons(stage, reasons)
                if not why and stage in kept and lacks_outputs(repo, stage):
                    why = ["its result is not in the store"]
                if why:
                    reasons[stage] = why
            locked = {stage: _digests(lock[stage], "outs") for stage in order if stage not in reasons}
            composed = {
                str(path): _md5(stage_text(config, path.stem).encode())
                for path in map(Path, paths(pipeline.get(COMPOSE, {}), "outs"))
            }
            cached = cached_stages(repo, order, locked, composed, remote=remote) if reasons else frozenset()
            gate = changes.gate()
    except DvcException as error:
        raise StageError(f"{project}: {error}") from error
    return Plan(reasons, order, cached, gate)


@dataclass(frozen=True)
class _Changes:
    """Differences from dvc.lock."""

    project: Path
    repo: "Repo"
    config: Config
    pipeline: dict[str, Entry]
    producers: dict[str, str]  # output → its stage; no file of the repository is in it
    lock: dict[str, Entry]
    status: dict[str, dict[str, str]]

    def reasons(self, stage: str, before: dict[str, list[str]]) -> list[str]:
        """Return why a stage would run, given those that would run before it; empty when it would not."""
        if stage not in self.lock:
            return ["never ran"]
        status, locked = self.status.get(stage, {}), _digests(self.lock[stage], "deps")
        reasons = ["its command changed"] if "command" in status else []
        for path in [*paths(self.pipeline[stage], "deps"), *paths(self.pipeline[stage], "params")]:
            producer = self.producers.get(path)
            if producer is None and path in status:
                reasons.append(f"{path} {'is missing' if status[path] == 'deleted' else 'changed'}")
            elif producer is None:
                continue
            elif Path(path).parent == ARTIFACTS / "config":
                reasons += self._changed_keys(Path(path), locked.get(path))
            elif producer in before:
                reasons.append(f"{producer} runs")
            elif locked.get(path) != _digests(self.lock[producer], "outs").get(path):
                reasons.append(f"{producer} has another result than this stage last saw")
        outs = paths(self.pipeline[stage], "outs")
        return reasons + [f"{path} was changed by hand" for path in outs if status.get(path) == "modified"]

    def gate(self) -> tuple[str, ...]:
        """Return the changed keys that the gate and the pin depend on."""
        known = _digests(self.lock.get(COMPOSE, {}), "outs")
        return tuple(self._changed_keys(GATE, known[str(GATE)])) if str(GATE) in known else ()

    def _changed_keys(self, path: Path, md5: str | None) -> list[str]:
        """Return the keys of a composed file that changed since the stage last ran."""
        text = stage_text(self.config, path.stem)
        if md5 == _md5(text.encode()):
            return []
        old = next((old for old in self._old_texts(path, md5) if md5 == _md5(old.encode())), None)
        if old is None:
            return [f"{path} changed (the old values are not here)"]
        before, after = dict(leaves(yaml.safe_load(old))), dict(leaves(yaml.safe_load(text)))
        return [
            f"{key}: {_show(before.get(key))} → {_show(after.get(key))}"
            for key in before | after
            if before.get(key) != after.get(key) or (key in before) != (key in after)
        ]

    def _old_texts(self, path: Path, md5: str | None) -> Iterator[str]:
        """Yield candidates for the composed file of the stage's last run; the caller compares digests."""
        places = [self.project / path]
        if md5 is not None:
            places.append(Path(self.repo.cache.local.oid_to_path(md5)))
        yield from (place.read_text(encoding="utf-8") for place in places if place.is_file())
        try:  # a fresh clone has neither, but dvc.lock holds the params.yaml of the last run
            yield stage_text(compose(self.project, self.lock[COMPOSE]["params"]["params.yaml"])[0], path.stem)
        except (KeyError, ConfigError):
            return


def _by_stage(status: dict[str, list[Any]]) -> dict[str, dict[str, str]]:
    """Flatten the result of `dvc status` to {stage: {path: how it changed}}, with `command` when that changed."""
    flat: dict[str, dict[str, str]] = {}
    for stage, findings in status.items():
        flat[stage] = {}
        for finding in findings:
            if isinstance(finding, str):
                flat[stage][finding.removeprefix("changed ")] = "modified"
            else:
                for changed in finding.values():
                    flat[stage] |= {path: how if isinstance(how, str) else "modified" for path, how in changed.items()}
    return flat


def read_stages(project: Path, file: Path) -> dict[str, Entry]:
    """Return the stages of dvc.yaml or dvc.lock, empty if it does not exist; ConfigError if it is not YAML."""
    try:
        content = yaml.safe_load((project / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise not_yaml(project, file, error) from error
    stages = content.get("stages") if isinstance(content, dict) else None
    return stages if isinstance(stages, dict) else {}  # DVC says what is wrong


def _digests(entry: Entry, what: str) -> dict[str, str]:
    return {each["path"]: each["md5"] for each in entry.get(what, [])}


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _show(value: object) -> str:
    return "(empty)" if value is None else json.dumps(value, ensure_ascii=False)
