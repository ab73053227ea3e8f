"""`gate.deploy`: pull request that pins dev's model, which passed the gate, to staging, with both models' metrics."""

from __future__ import annotations

from runner.release.pin import OVERLAYS
from runner.release.promote import difference, promote
from runner.retrain.branch import cloned
from runner.store import Store
from runner.store.published import read_version

STAGING = "staging"


def propose_for_staging(url: str, branch: str, store: Store, model: str, number: int) -> str:
    """Open or update the pull request that pins a version to staging; return the result, to print."""
    from runner.forge.pull_request import propose

    version = read_version(store, model, number)
    if not version.passed or not (version.manifest.verdict or {}).get("deploy"):
        return ""
    with cloned(url, branch) as clone:
        body = difference(clone, STAGING, version, markdown=True)
        print(promote(clone, store, STAGING, version, force=False, allow_local=False), flush=True)
        pin = OVERLAYS / STAGING / "model.env"
        return propose(
            clone,
            {str(pin): (clone / pin).read_bytes()},
            branch=f"flywheel/{STAGING}",
            title=f"{STAGING}: {model} {number}",
            body=body,
            base=branch,
        )
