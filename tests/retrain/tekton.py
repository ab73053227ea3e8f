"""Runs a PipelineRun by Tekton's rules, from what kustomize rendered.

The rules are those of Tekton Pipelines 1.6 (pkg/reconciler/pipelinerun/resources/pipelinerunresolution.go): a Task
starts when all it refers to is done; it is skipped when the run stops, when a `when` does not hold, when one before it
was skipped for another reason, or when a result of a skipped one is missing. `finally` runs in the end, always.
"""

from __future__ import annotations

import copy
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.retrain.kubernetes import Api, now
from tests.retrain.pod import run_container

Object = dict[str, Any]
RESULT = re.compile(r"\$\(tasks\.([\w-]+)\.results\.([\w-]+)\)")
KNOWN = re.compile(r"\$\((?:params|results|tasks|context|workspaces|steps)\.[^)]*\)")
UNITS = {"s": 1, "m": 60, "h": 3600}


class RunError(Exception):
    """Tekton would refuse this run."""


@dataclass
class State:
    """A Task of the Pipeline in a run: what became of it, and its results."""

    outcome: str = "None"  # None | Running | Succeeded | Failed
    skipped: str = ""  # why: When, Parent, Stopping, Cancelled, Missing
    results: dict[str, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return bool(self.skipped) or self.outcome in ("Succeeded", "Failed")


class Controller:
    """Tekton's controller and the kubelet, for one namespace."""

    def __init__(
        self, rendered: list[Object], api: Api, port: int, secrets: dict[str, dict[str, str]], folder: Path
    ) -> None:
        self.api, self.port, self.secrets, self.folder = api, port, secrets, folder
        self.by_kind: dict[str, dict[str, Object]] = {}
        for each in rendered:
            self.by_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
        self.kill: set[str] = set()  # names of Pipeline Tasks whose container is to be killed, once
        self.errors: list[BaseException] = []

    def run(self, run: Object) -> dict[str, State]:
        """Run a PipelineRun to its end and return what became of its Tasks."""
        pipeline = self.by_kind["Pipeline"][run["spec"]["pipelineRef"]["name"]]["spec"]
        given = {each["name"]: each["value"] for each in run["spec"]["params"]}
        declared = {each["name"]: given.get(each["name"], each.get("default")) for each in pipeline["params"]}
        if given.keys() - declared.keys() or None in declared.values():
            raise RunError(f"params {sorted(given)}, but the Pipeline declares {sorted(declared)}")
        values = {f"params.{name}": value for name, value in declared.items()}
        values["context.pipelineRun.name"] = run["metadata"]["name"]
        states = {task["name"]: State() for task in pipeline["tasks"]}
        threads: list[threading.Thread] = []
        while not all(state.is_done for state in states.values()):
            for task in pipeline["tasks"]:
                state = states[task["name"]]
                if state.outcome != "None" or state.skipped or not self._may_look(task, states, run):
                    continue
                state.skipped = self._skip(task, states, values, run)
                if not state.skipped:
                    state.outcome = "Running"
                    thread = threading.Thread(target=self._try_task, args=(task, run, values, states))
                    thread.start()
                    threads.append(thread)
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        outcomes = [state.outcome for state in states.values()]
        values["tasks.status"] = "Failed" if "Failed" in outcomes else "Succeeded"
        values |= {f"tasks.{name}.status": state.outcome for name, state in states.items()}
        for task in pipeline.get("finally", []):
            states[task["name"]] = State("Running")
            self._run_task(task, run, values, states, is_final=True)
        failed = any(state.outcome == "Failed" for state in states.values())
        reason = "Cancelled" if _is_cancelled(run) else "Failed" if failed else "Succeeded"
        with self.api.lock:
            status = run.setdefault("status", {})
            status["conditions"] = [_condition(reason == "Succeeded", reason)]
        return states

    def run_cron_job(self, name: str) -> tuple[int, str]:
        """Run the one container of a CronJob's Pod as if its time had come; return its exit status and its output."""
        spec = self.by_kind["CronJob"][name]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        folder = self.folder / f"{name}-{time.monotonic_ns()}"
        mounts = {}
        for mount in container["volumeMounts"]:
            volume = next(each for each in spec["volumes"] if each["name"] == mount["name"])
            if "projected" in volume:
                path = self.api.account(spec["serviceAccountName"])
            else:
                (path := folder / mount["name"]).mkdir(parents=True)
                path.chmod(0o777)
            mounts[mount["mountPath"]] = (path, bool(mount.get("readOnly")))
        status = run_container(
            [*container["command"], *container["args"]],
            mounts=mounts,
            environment=self.environment(container["envFrom"], container["env"]),
            folder=container["workingDir"],
            log=folder / "log",
        )
        return status, (folder / "log").read_text(encoding="utf-8")

    def environment(self, sources: list[Object], variables: list[Object]) -> dict[str, str]:
        """Return what a container finds in its environment, as the kubelet makes it."""
        found = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}
        for each in sources:
            if "configMapRef" in each:
                found |= self.by_kind["ConfigMap"][each["configMapRef"]["name"]]["data"]
            else:
                found |= self.secrets[each["secretRef"]["name"]]
        for each in variables:
            if "value" in each:
                found[each["name"]] = each["value"]
                continue
            reference = each["valueFrom"]["secretKeyRef"]
            value = self.secrets.get(reference["name"], {}).get(reference["key"])
            if value is None and not reference.get("optional"):
                raise RunError(f"Secret {reference['name']} has no key {reference['key']}")
            if value is not None:
                found[each["name"]] = value
        return found

    def _may_look(self, task: Object, states: dict[str, State], run: Object) -> bool:
        stopping = any(state.outcome == "Failed" for state in states.values()) or _is_cancelled(run)
        return stopping or all(states[name].is_done for name in _parents(task))

    def _skip(self, task: Object, states: dict[str, State], values: dict[str, str], run: Object) -> str:
        if any(state.outcome == "Failed" for state in states.values()):
            return "Stopping"
        if _is_cancelled(run):
            return "Cancelled"
        known = values | _results(states)
        for when in task.get("when", []):
            found = put_in(when["input"], known, strict=False)
            allowed = found in [put_in(each, known, strict=False) for each in when["values"]]
            if allowed != (when["operator"] == "in"):
                return "When"
        if any(states[name].skipped and states[name].skipped != "When" for name in _parents(task)):
            return "Parent"
        for name, result in RESULT.findall(str([task.get("params"), task.get("when")])):
            if result not in states[name].results:
                if states[name].skipped == "When":
                    return "Missing"
                raise RunError(f"{task['name']}: {name} gave no result {result}")
        return ""

    def _try_task(self, task: Object, run: Object, values: dict[str, str], states: dict[str, State]) -> None:
        try:
            self._run_task(task, run, values, states)
        except BaseException as error:  # told by the thread that waits
            self.errors.append(error)
            states[task["name"]].outcome = "Failed"
            raise

    def _run_task(
        self, task: Object, run: Object, values: dict[str, str], states: dict[str, State], *, is_final: bool = False
    ) -> None:
        name, state = task["name"], states[task["name"]]
        spec = copy.deepcopy(self.by_kind["Task"][task["taskRef"]["name"]])
        given = put_in({each["name"]: each["value"] for each in task.get("params", [])}, values | _results(states))
        task_run = self._task_run(run, name, spec)
        end = time.monotonic() + _duration(task.get("timeout", "1h"))
        for attempt in range(1 + task.get("retries", 0)):
            with self.api.lock:
                task_run["status"] = {"startTime": task_run.get("status", {}).get("startTime") or now()}
            pod = _Pod(self, run, task, spec, given, attempt, is_final=is_final)
            is_well, results = pod.run(end)
            state.results = results
            with self.api.lock:
                cancelled = pod.was_cancelled()
                reason = "Succeeded" if is_well else "TaskRunCancelled" if cancelled else "Failed"
                listed = [{"name": key, "value": value} for key, value in results.items()]
                task_run["status"] |= {
                    "completionTime": now(),
                    "conditions": [_condition(is_well, reason)],
                    "results": listed,
                }
            if is_well or cancelled:
                break
        state.outcome = "Succeeded" if is_well else "Failed"

    def _task_run(self, run: Object, name: str, task: Object) -> Object:
        """Make the TaskRun, with the labels that Tekton gives it, and name it in the PipelineRun."""
        labels = task["metadata"].get("labels", {}) | {
            "tekton.dev/pipelineRun": run["metadata"]["name"],
            "tekton.dev/pipelineTask": name,
        }
        made = self.api.create(
            "taskruns", {"metadata": {"name": f"{run['metadata']['name']}-{name}", "labels": labels}}
        )
        with self.api.lock:
            children = run.setdefault("status", {}).setdefault("childReferences", [])
            children.append({"name": made["metadata"]["name"], "pipelineTaskName": name})
        return made


class _Pod:
    """The Pod of one try of a Task."""

    def __init__(
        self,
        controller: Controller,
        run: Object,
        task: Object,
        spec: Object,
        given: dict[str, str],
        attempt: int,
        *,
        is_final: bool,
    ) -> None:
        self.controller, self.run_object, self.task, self.is_final = controller, run, task, is_final
        self.spec, self.given = spec["spec"], given
        self.folder = controller.folder / run["metadata"]["name"] / f"{task['name']}-{attempt}"
        self.results = self.folder / "results"
        self.killed = False

    def run(self, end: float) -> tuple[bool, dict[str, str]]:
        """Run the steps one after the other; return whether all went well, and the results."""
        declared = {
            each["name"]: self.given.get(each["name"], each.get("default")) for each in self.spec.get("params", [])
        }
        if self.given.keys() - declared.keys() or None in declared.values():
            raise RunError(f"{self.task['name']}: params {sorted(self.given)}, declared {sorted(declared)}")
        values = {f"params.{name}": value for name, value in declared.items()}
        values |= {f"results.{each['name']}.path": f"/tekton/results/{each['name']}" for each in self.spec["results"]}
        mounts = self._volumes(values)
        is_well = all(self._step(step, values, mounts, end) == 0 for step in self.spec["steps"])
        found = {path.name: path.read_text() for path in self.results.iterdir()}
        if unknown := found.keys() - {each["name"] for each in self.spec["results"]}:
            raise RunError(f"{self.task['name']}: wrote results that it does not declare: {unknown}")
        if sum(map(len, found.values())) > 4000:  # they share the 4 KiB of the container's last message
            raise RunError(f"{self.task['name']}: its results are too long")
        return is_well, found

    def was_cancelled(self) -> bool:
        return not self.is_final and _is_cancelled(self.run_object)

    def _stop(self) -> bool:
        if self.task["name"] in self.controller.kill:
            self.controller.kill.discard(self.task["name"])
            self.killed = True
        return self.killed or self.was_cancelled()

    def _step(self, step: Object, values: dict[str, str], mounts: dict[str, Path], end: float) -> int:
        step = put_in(self._resolved(step, values), values)
        template = put_in(self.spec["stepTemplate"], values)
        assert template["securityContext"]["readOnlyRootFilesystem"]
        assert template["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        scripts = self.folder / f"scripts-{step['name']}"
        scripts.mkdir()
        (scripts / "script").write_text(step["script"])
        (scripts / "script").chmod(0o755)
        places = {
            each["mountPath"]: (mounts[each["name"]], bool(each.get("readOnly")))
            for each in [*template["volumeMounts"], *step.get("volumeMounts", [])]
        }
        places |= {"/tekton/results": (self.results, False), "/tekton/scripts": (scripts, True)}
        account, has_token = self._account()
        if has_token:
            places["/var/run/secrets/kubernetes.io/serviceaccount"] = (self.controller.api.account(account), True)
        return run_container(
            ["/tekton/scripts/script"],
            mounts=places,
            environment=self.controller.environment(
                [*template.get("envFrom", []), *step.get("envFrom", [])],
                [*template.get("env", []), *step.get("env", [])],
            ),
            folder=step.get("workingDir") or template["workingDir"],
            log=self.folder / "log",
            stop=self._stop,
            seconds=end - time.monotonic(),
        )

    def _resolved(self, step: Object, values: dict[str, str]) -> Object:
        """Put a StepAction in the place of a reference to it."""
        if "ref" not in step:
            return step
        action = copy.deepcopy(self.controller.by_kind["StepAction"][step["ref"]["name"]]["spec"])
        given = {each["name"]: put_in(each["value"], values) for each in step.get("params", [])}
        inner = {
            f"params.{each['name']}": given.get(each["name"], each.get("default")) for each in action.pop("params", [])
        }
        return {"name": step["name"], **put_in(action, inner)}

    def _volumes(self, values: dict[str, str]) -> dict[str, Path]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.results.mkdir(parents=True)
        self.results.chmod(0o777)
        found = {}
        for volume in put_in(self.spec["volumes"], values):
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in self.controller.by_kind["PersistentVolumeClaim"]
                folder = self.controller.folder / "claims" / claim["claimName"]
            else:
                folder = self.folder / "volumes" / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            found[volume["name"]] = folder
        return found

    def _account(self) -> tuple[str, bool]:
        """Return the ServiceAccount of the Pod, and whether its token is mounted."""
        spec = self.run_object["spec"]
        own: Object = next((each for each in spec["taskRunSpecs"] if each["pipelineTaskName"] == self.task["name"]), {})
        template = spec["taskRunTemplate"]
        name = own.get("serviceAccountName") or template["serviceAccountName"]
        assert name in self.controller.by_kind["ServiceAccount"]
        pod = template["podTemplate"] | own.get("podTemplate", {})
        return name, bool(pod.get("automountServiceAccountToken", True))


def put_in(node: Any, values: dict[str, str], *, strict: bool = True) -> Any:
    """Put values in the place of Tekton's variables; `strict`: one that nobody knows is an error."""
    if isinstance(node, dict):
        return {key: put_in(value, values, strict=strict) for key, value in node.items()}
    if isinstance(node, list):
        return [put_in(value, values, strict=strict) for value in node]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        name = match[0][2:-1]
        if name not in values and strict:
            raise RunError(f"{match[0]}: no such variable here")
        return str(values.get(name, match[0]))

    return KNOWN.sub(value_of, node)


def _parents(task: Object) -> set[str]:
    refers = {name for name, _ in RESULT.findall(str([task.get("params"), task.get("when")]))}
    return refers | set(task.get("runAfter", []))


def _results(states: dict[str, State]) -> dict[str, str]:
    return {
        f"tasks.{name}.results.{key}": value for name, state in states.items() for key, value in state.results.items()
    }


def _condition(is_well: bool, reason: str) -> Object:
    return {"type": "Succeeded", "status": str(is_well), "reason": reason}


def _is_cancelled(run: Object) -> bool:
    return bool(run["spec"].get("status") == "CancelledRunFinally")


def _duration(text: str) -> float:
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
