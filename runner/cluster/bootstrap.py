"""Apply Argo CD and its root Application to the cluster that the user is logged in to; Argo CD syncs everything else.

Idempotent: objects are applied server-side, nothing is undone. Refuses while the work tree differs from the revision
that Argo CD reads from Git, because the two would overwrite each other.
"""

from collections.abc import Sequence
from pathlib import Path

from runner.cluster import facts as cluster_env
from runner.cluster import kubectl
from runner.cluster.api import PIPELINES
from runner.cluster.container_images import require_built
from runner.cluster.git_addresses import require_addresses
from runner.cluster.gpu_nodes import require_patches
from runner.cluster.installation import ARGO_CD, NAMESPACES, migrate, rendered, require_ours
from runner.cluster.openshift_gitops import others_subscription, require_usable
from runner.cluster.waiting import OPERATORS, Say, wait_until
from runner.errors import ClusterError, ConfigError, GitError
from runner.forge.git import git, paths_of

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CONTROLLER = ("argocd", "argocd-application-controller")  # namespace, ServiceAccount
# CRD → who installs it. On OpenShift the operators do; elsewhere it must be installed before.
PREREQUISITES = {
    **{f"{kind.lower()}s.{group}": "Argo CD, in the namespace argocd" for group, kind in ARGO_CD},
    "certificates.cert-manager.io": "cert-manager",
    "pipelines.tekton.dev": "Tekton Pipelines",
    "eventlisteners.triggers.tekton.dev": "Tekton Triggers",
    "servicemonitors.monitoring.coreos.com": "the Prometheus operator",
}
#: Secrets that people supply: namespace, name, required key. gitops/README.md has the commands.
USER_SECRETS = ((PIPELINES, "git", "token"), (PIPELINES, "webhook", "secret"))


def bootstrap(project: Path, platform: str, say: Say, *, patience_s: float = 900, pause_s: float = 5) -> None:
    """Apply gitops/bootstrap/; `patience_s` is the longest wait for each thing that the cluster creates.

    ConfigError: cluster.env or a patch of GPU nodes is incomplete, for another platform or cloud, or not pushed; or, on
    plain Kubernetes, where nothing builds them later, an image has no digest. ClusterError: the cluster refuses, a wait
    timed out, the installed OpenShift GitOps is unusable, or an object exists that is not ours.
    """
    values = cluster_env.check(project / cluster_env.PATH, complete=True)
    if values["PLATFORM"] != platform:
        raise ConfigError(f"{cluster_env.PATH}: PLATFORM is {values['PLATFORM']}, but {platform} was asked for")
    require_patches(project, values)
    require_addresses(project, values)
    require_pushed(project, values)
    objects = rendered(project, platform)
    if platform == "openshift":
        there = others_subscription()
        if there:
            require_usable(project, there)
        require_ours(objects)
        if not there:
            _apply(project, "operator", say)
        wait_until(_missing_kind, say, remedy=OPERATORS, patience_s=patience_s, pause_s=pause_s)
    else:
        require_built(project)
        missing = sorted({who for name, who in PREREQUISITES.items() if kubectl.get(CRD + name) is None})
        if missing:
            raise ClusterError(
                f"the cluster lacks {', '.join(missing)}; gitops/README.md (before) says how to install what is missing"
            )
        require_ours(objects)
    migrate(objects, platform, say)
    _apply(project, f"root/overlays/{platform}", say)
    say(f"applied; Argo CD does the rest: kubectl -n {NAMESPACES[platform][-1]} get applications -w")
    for line in advice() if platform == "kubernetes" else ():
        say(line)
    for namespace, name, _ in USER_SECRETS:
        if not kubectl.secret(namespace, name):
            say(f"please create Secret {name} in {namespace}; gitops/README.md has the command")


def _missing_kind() -> str:
    """Return the first kind that OpenShift GitOps has not brought yet, as `kubectl apply` sees it; empty for none."""
    served = kubectl.kinds(["argoproj.io"])
    missing = (kind for kind in (*ARGO_CD, ("argoproj.io", "ArgoCD")) if kind not in served)
    return next((f"{kind.lower()}s.{group}, which OpenShift GitOps brings" for group, kind in missing), "")


def require_pushed(project: Path, values: dict[str, str]) -> None:
    """Raise ConfigError when a revision that Argo CD reads is missing, or differs from the work tree."""
    url = values["REPO_URL"]
    excluded = [f":(exclude)gitops/serving/{folder}" for folder in ("environments", "overlays")]
    followed = {"PLATFORM_REVISION": ["gitops", *excluded], "DETECTOR_REVISION": [str(cluster_env.PATH)]}
    for key, paths in followed.items():
        revision = values[key]
        if changed := changed_since(project, fetched(project, url, revision), paths):
            raise ConfigError(
                f"{', '.join(changed[:3])}{' …' if changed[3:] else ''} differs from {revision} of {url}, "
                "which Argo CD reads; commit and push it (a review may be asked for), then run this again"
            )


def fetched(project: Path, url: str, revision: str) -> str:
    """Fetch a branch or tag of a repository and return its commit id; ConfigError when that fails."""
    try:
        asking = {"GIT_TERMINAL_PROMPT": "1"}  # a person is there to type a password
        git(project, "fetch", "--quiet", "--no-tags", url, revision, environment=asking)
    except GitError as error:
        raise ConfigError(
            f"{revision} cannot be fetched from {url}: push it, or correct REPO_URL and the revisions in "
            f"{cluster_env.PATH} ({error})"
        ) from error
    return git(project, "rev-parse", "FETCH_HEAD^{commit}")


def changed_since(project: Path, commit: str, paths: Sequence[str]) -> list[str]:
    """Return the files of the work tree that differ from a commit, untracked ones too."""
    changed = git(project, "diff", "--name-only", "-z", commit, "--", *paths)
    return paths_of(changed + git(project, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths))


def advice() -> list[str]:
    """Return the lines of advice about ClusterRoleBindings that grant Argo CD's controller everything; empty for none.

    Upstream's manifests create one. It is not ours to delete: Applications of others may depend on it.
    """
    namespace, account = CONTROLLER
    names = [
        str(binding["metadata"]["name"])
        for binding in kubectl.items(f"{RBAC}/clusterrolebindings")
        if any((each.get("namespace"), each.get("name")) == CONTROLLER for each in binding.get("subjects") or ())
        and _grants_everything(binding["roleRef"]["name"])
    ]
    if not names:
        return []
    return [
        f"ClusterRoleBinding {', '.join(names)} still lets Argo CD's controller do everything on this cluster; the "
        "rights that Flywheel needs are applied beside it. Where no Application of others needs it, remove it:",
        f"  kubectl delete clusterrolebinding {' '.join(names)} && "
        f"kubectl -n {namespace} rollout restart statefulset {account}",
    ]


def _grants_everything(role: str) -> bool:
    rules = (kubectl.get(f"{RBAC}/clusterroles/{role}") or {}).get("rules") or ()
    return any(all("*" in (rule.get(field) or ()) for field in ("apiGroups", "resources", "verbs")) for rule in rules)


def _apply(project: Path, folder: str, say: Say) -> None:
    path = f"gitops/bootstrap/{folder}"
    # --force-conflicts: operators create some of these objects themselves; Git's fields must win.
    done = kubectl.run("apply", "--server-side", "--force-conflicts", "-k", path, folder=project)
    for line in done.stdout.splitlines():
        say(f"  {line}")
    if done.returncode:
        raise ClusterError(f"{path} was not applied as a whole: {' '.join(done.stderr.split())}; run this again")
