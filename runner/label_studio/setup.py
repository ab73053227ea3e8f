"""`labels setup`: bring the project in Label Studio to the state in Git; idempotent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from label_studio_sdk.core.api_error import ApiError

from runner.config.compose import compose
from runner.config.schema import Config
from runner.errors import LabelStudioError
from runner.label_studio.annotations import labels_used
from runner.label_studio.current import class_list, current_dataset, scratch
from runner.label_studio.interface import difference, labelling_configuration, labels_in
from runner.label_studio.project import SETTINGS, Project, existing_project, project_named
from runner.label_studio.server import Server, connected
from runner.store import Store, open_store

WEBHOOK_ACTIONS = ("ANNOTATIONS_DELETED", "ANNOTATION_CREATED", "ANNOTATION_UPDATED")  # sorted
_PREFIX = "datasets/"  # Label Studio checks its keys here; it reads all of the bucket that they allow
_SIGN = f"{_PREFIX}README"  # so that the prefix is not empty
_NOTHING = "^$"  # matches no key: Sync in Label Studio would make tasks of unknown origin


def set_up(project: Path) -> str:
    """Create or update the project, its labels, storage and webhook; change only what differs.

    Returns:
        The changes, `-` before and `+` after, to print.
    Raises:
        LabelStudioError: the server cannot be reached, refuses, or a label would be removed that annotations still use.
    """
    config, _ = compose(project)
    store = open_store(project)
    with connected() as server, scratch(project) as folder:
        classes = class_list(config, current_dataset(config, store, project, folder / "dataset"))
        its, changes = _project(server, config, classes)
        changes += _storage(its, store)
        changes += _webhook(its)
    return "\n".join([*changes, f"{its.title}: {'is set up' if changes else 'nothing to change'}, {its.address}"])


def _project(server: Server, config: Config, classes: list[str]) -> tuple[Project, list[str]]:
    title, wanted = config.labels.title, labelling_configuration(classes, config.labels.rotated)
    on: dict[str, Any] = dict.fromkeys(SETTINGS, True)
    its = project_named(server, title)
    if its is None:
        server.client.projects.create(title=title, label_config=wanted, **on)
        return existing_project(server, title), [f"+ project {title}", *difference("<View />", wanted)]
    changes = difference(its.configuration, wanted)
    if changes:
        _refuse_to_lose(its, set(labels_in(its.configuration)) - set(classes))
    changes += [line for name in its.off for line in (f"- {name}: false", f"+ {name}: true")]
    if changes:
        server.client.projects.update(its.id, label_config=wanted, **on)
    return its, changes


def _refuse_to_lose(its: Project, going: set[str]) -> None:
    """Refuse to remove used labels: Label Studio would keep the annotations, which no longer fit."""
    if going and (used := going & labels_used(its)):
        raise LabelStudioError(
            f"{', '.join(sorted(used))}: annotations still use it, but dataset.classes does not list it; change those "
            f"annotations at {its.address}, or list it again"
        )


def _storage(its: Project, store: Store) -> list[str]:
    """Connect the store's bucket, if it is one; Label Studio proxies the pictures, so browsers need no S3."""
    address = urlsplit(store.uri)
    if address.scheme != "s3":
        return []
    if not store.exists(_SIGN):
        store.create(_SIGN, b"Versions of datasets, and the pictures of Label Studio's tasks.\n")
    wanted: dict[str, Any] = {
        "bucket": address.netloc,
        "prefix": _PREFIX,
        "s3endpoint": _theirs("AWS_ENDPOINT_URL"),
        "region_name": os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "presign": False,
        "use_blob_urls": True,
        "regex_filter": _NOTHING,
    }
    keys = {key: _theirs(key.upper()) for key in ("aws_access_key_id", "aws_secret_access_key")}
    storages = its.server.client.import_storage.s3
    found = next((each for each in storages.list(project=its.id) if each.bucket == address.netloc), None)
    if found is None:
        storages.create(project=its.id, title="store", **wanted, **keys)
        return [f"+ storage s3://{address.netloc}"]
    off = [name for name, value in wanted.items() if getattr(found, name) != value]
    if not off and _works(its, found.id, wanted):
        return []
    storages.update(found.id, **wanted, **keys)
    old_and_new = [(f"- storage {name}: {getattr(found, name)}", f"+ storage {name}: {wanted[name]}") for name in off]
    return [line for pair in old_and_new for line in pair] or ["+ storage: new keys, the old ones were refused"]


def _works(its: Project, storage_id: int, wanted: dict[str, Any]) -> bool:
    """Whether Label Studio can read the bucket with its stored keys, which it never shows.

    Validation also writes the given values, and Label Studio's defaults for the rest: so all values are given.
    """
    try:
        its.server.client.import_storage.s3.validate(id=storage_id, project=its.id, **wanted)
    except ApiError as error:
        if error.status_code in (400, 500):  # keys that the bucket does not know give 500
            return False
        raise
    return True


def _webhook(its: Project) -> list[str]:
    """Register LABEL_STUDIO_WEBHOOK_URL for annotation events, without their payload."""
    url = os.environ.get("LABEL_STUDIO_WEBHOOK_URL")
    if not url:
        return []
    secret = os.environ.get("LABEL_STUDIO_WEBHOOK_SECRET")
    wanted: dict[str, Any] = {
        "actions": list(WEBHOOK_ACTIONS),
        "headers": {"Authorization": f"Bearer {secret}"} if secret else {},
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
    }
    hooks = its.server.client.webhooks
    found = next((each for each in hooks.list(project=str(its.id)) if each.url == url), None)
    if found is None:
        hooks.create(url=url, project=its.id, **wanted)
        return [f"+ webhook {url}"]
    there = {**found.model_dump(), "actions": sorted(found.actions or [])}
    off = [name for name, value in wanted.items() if there[name] != value]
    if off:
        hooks.update(found.id or 0, url=url, **wanted)
    return [f"+ webhook {url}: new {', '.join(off)}"] if off else []


def _theirs(name: str) -> str:
    """Return a store setting for Label Studio: LABEL_STUDIO_<name>, else <name>."""
    return os.environ.get(f"LABEL_STUDIO_{name}") or os.environ.get(name) or ""
