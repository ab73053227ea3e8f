"""`store use`: put DVC's remote into the same store, under dvc/; written to .dvc/config.local, which Git ignores."""

import os
from pathlib import Path

from dvc.config import Config

from runner.errors import StoreError
from runner.store import open_store
from runner.store.folder import FolderStore

REMOTE = "store"  # name of the remote in .dvc/config
_OURS = ("url", "endpointurl", "ssl_verify", "verify")

_CHECKED = {"verify": "true"}  # DVC hashes what it fetches: whoever may push could have put other bytes under a digest


def use_store(project: Path) -> str:
    """Point DVC's remote to the store of STORE_URI; return a text to print.

    The user's own keys of the remote stay. Credentials are not written: DVC reads AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY itself.
    """
    dvc = project / ".dvc"
    if not dvc.is_dir():
        raise StoreError(f"{dvc} is missing, expected a project of DVC's; run this in its folder, or `dvc init`")
    values = _values(project)
    with Config(dvc_dir=str(dvc), validate=False).edit("local") as config:
        remotes = config.setdefault("remote", {})
        kept = {key: value for key, value in remotes.get(REMOTE, {}).items() if key not in _OURS}
        remotes[REMOTE] = kept | values
        if not remotes[REMOTE]:
            del remotes[REMOTE]
    if not values:
        return "DVC's remote is the folder store/dvc, as .dvc/config says"
    return f"DVC's remote is {values['url']}; `dvc push --run-cache` fills it, `dvc pull` reads it"


def _values(project: Path) -> dict[str, str]:
    if not os.environ.get("STORE_URI"):
        return {}
    store = open_store(project)
    if isinstance(store, FolderStore):
        return {"url": str(store.folder.absolute() / "dvc"), **_CHECKED}
    endpoint = store.bucket.endpoint
    values = {"url": f"{store.uri}/dvc", "endpointurl": endpoint.url or "", **_CHECKED}
    return values | ({"ssl_verify": str(Path(endpoint.ca_bundle).absolute())} if endpoint.ca_bundle else {})
