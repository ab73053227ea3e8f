"""Publishers that are killed, and publishers that race: processes of their own, since a SIGKILL takes all.

`python -m tests.support.publishers kill operations|requests PROJECT` kills a publish after its first operation on the
store (or request to the S3 server), then after its second and so on, each time under another model name, until one is
left to finish. `… race TIMES PROJECT…` lets one publisher a project begin at the same instant. Prints what is in the
store as JSON, a line a round. The store is STORE_URI's.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import urllib3

from runner.release.contents import Release, releasing
from runner.release.publish import publish
from runner.store import Store, open_store, s3
from runner.store.published import latest, numbers, version_key
from serving.storage.endpoint import connect, pool_of
from tests.conftest import PROJECT


def drive(*arguments: str | Path, **environment: str) -> list[dict[str, Any]]:
    """Run this module with these arguments; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.support.publishers", *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stderr, file=sys.stderr)  # why a publisher gave up
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


class Dying:
    """A store whose process is killed as soon as so many operations are done."""

    def __init__(self, store: Store, operations: int) -> None:
        self.store, self.uri, self.left = store, store.uri, operations

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation: Callable[..., Any] = getattr(self.store, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            result = operation(*arguments, **named)
            self.left -= name != "uri_of"
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def die_after(requests: int) -> None:
    """Let this process be killed as soon as so many requests were answered."""
    left, ask = requests, urllib3.PoolManager.urlopen

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        response = ask(*arguments, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return response

    urllib3.PoolManager.urlopen = counted  # type: ignore[method-assign]


def in_child(work: Callable[[], object]) -> int:
    """Start a process that does this and ends; its id."""
    if child := os.fork():
        return child
    connect.cache_clear()  # connections are the parent's own
    pool_of.cache_clear()
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is: a child must not go on with what its parent does
        traceback.print_exc()
    finally:
        os._exit(1)


def seen(store: Store, model: str) -> dict[str, Any]:
    """What a reader finds of a model: the versions that exist, which numbers were used, the latest, what is wrong."""
    problems = []
    for number in numbers(store, model):
        manifest = json.loads(store.read(version_key(model, number)))
        digests = {version_key(model, number, "model.onnx"): manifest["onnx_sha256"]}
        digests |= {f"runs/{model}/{number}/{name}": sha256 for name, sha256 in manifest["files"].items()}
        for key, sha256 in digests.items():
            if not store.exists(key) or hashlib.sha256(store.read(key)).hexdigest() != sha256:
                problems.append(key)
        if not store.exists(f"runs/{model}/{number}/README.md"):
            problems.append("no model card")
    if (newest := latest(store, model)) and newest not in numbers(store, model):
        problems.append("latest.json names no version")
    used = sorted({int(key.split("/")[2]) for key in store.list(f"runs/{model}/")})
    return {"versions": numbers(store, model), "used": used, "latest": newest, "problems": problems}


def named(release: Release, model: str) -> Release:
    """The same release under another model name."""
    return release._replace(manifest=release.manifest.model_copy(update={"name": model}))


def kill(what: str, project: Path) -> Iterator[dict[str, Any]]:
    """Yield what is seen after each kill, after the next publish, and after another one."""
    s3._SETTLE_SECONDS = 0.05  # nobody else publishes
    os.chdir(project)
    with releasing(project) as release:
        for count in range(1, 1000):
            mine = named(release, f"killed-{what}-{count}")

            def work(mine: Release = mine, count: int = count) -> None:
                store = open_store(project)
                if what == "requests":
                    die_after(count)
                publish(Dying(store, count if what == "operations" else 0), mine)

            _, status = os.waitpid(in_child(work), 0)
            store = open_store(project)
            found = [seen(store, mine.manifest.name)]
            for _ in range(2):
                publish(store, mine)
                found.append(seen(store, mine.manifest.name))
            yield {"killed": os.WIFSIGNALED(status), "status": status, "seen": found}
            if not os.WIFSIGNALED(status):
                return


def race(times: int, projects: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield what is seen after several publishers began at once."""
    with contextlib.ExitStack() as stack:
        releases = []
        for project in projects:
            os.chdir(project)
            releases.append(stack.enter_context(releasing(project)))
        for turn in range(times):
            ready, go = os.pipe()

            def work(release: Release, ready: int = ready, go: int = go, turn: int = turn) -> None:
                store = open_store(projects[0])
                os.close(go)
                os.read(ready, 1)  # until the parent closes its end too
                publish(store, named(release, f"race-{turn}"))

            children = [in_child(partial(work, release)) for release in releases]
            os.close(go)
            statuses = [os.waitpid(child, 0)[1] for child in children]
            os.close(ready)
            yield {"statuses": statuses, "seen": seen(open_store(projects[0]), f"race-{turn}")}


if __name__ == "__main__":
    mode, how, *folders = sys.argv[1:]
    paths = [Path(folder) for folder in folders]
    for line in kill(how, paths[0]) if mode == "kill" else race(int(how), paths):
        print(json.dumps(line), flush=True)
