"""`labels setup`: create the project in Label Studio, or update it to match Git; idempotent."""

import colorsys
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from xml.etree import ElementTree

from label_studio_sdk.core.api_error import ApiError

from runner.config.compose import compose
from runner.config.schema import Config
from runner.errors import LabelStudioError, RunnerError
from runner.label_studio.annotations import labels_used
from runner.label_studio.labelled_dataset import class_list, current_dataset
from runner.label_studio.labelling_tasks import PROPOSAL
from runner.label_studio.merge import check_classes
from runner.label_studio.regions import FROM_NAME, TO_NAME
from runner.label_studio.server import SETTINGS, Project, Server, connected
from runner.pipeline.doctor import Diagnosis
from runner.store import Store, open_store
from runner.workspace import scratch

WEBHOOK_ACTIONS = ("ANNOTATIONS_DELETED", "ANNOTATION_CREATED", "ANNOTATION_UPDATED")  # sorted
ML_BACKEND = "model server"  # its title in Label Studio
TAB = "To do"  # title of the tab with the waiting tasks, those of the greatest `priority` first
_HIDDEN = (  # columns of the tab, so that reason, priority, verdict and comment are on the first screen
    *(f"data.{key}" for key in ("name", "sha256", "sent_sha256", "dhash", "note", "requests", "request_id", "pushed")),
    *("data.environment", "data.model", "data.reported", "data.reviewed", "data.disagreement", "data.boxes_by"),
    *("inner_id", "annotators", "annotations_ids", "annotations_results", "cancelled_annotations"),
    *("predictions_results", "predictions_score", "total_predictions"),
    *("predictions_model_versions", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by"),
    *("avg_lead_time", "draft_exists", "completed_at"),
)
_PREFIX = "datasets/"  # Label Studio checks its keys here; it reads all of the bucket that they allow
_README = f"{_PREFIX}README"  # so that the prefix is not empty
_GOLDEN = 0.6180339887  # golden-ratio step of the hue: each is far from those before it
_NO_KEY = "^$"  # matches no key: Sync in Label Studio would create tasks of unknown origin


def set_up(project: Path) -> str:
    """Create or update the project, its labels, storage and webhook; return the changes, `-` before and `+` after."""
    config, _ = compose(project)
    store = open_store(project)
    with connected() as server, scratch("labels-", project) as folder:
        dataset = current_dataset(config, store, project, folder / "dataset")[0]
        classes = class_list(config, dataset)
        check_classes(dataset, classes)
        labels_project, changes = _project(server, config, classes)
        changes += _tab(labels_project)
        changes += _storage(labels_project, store)
        changes += _webhook(labels_project)
        changes += _ml_backend(labels_project)
        changes += _shown_boxes(labels_project)
    state = "is set up" if changes else "nothing to change"
    return "\n".join([*changes, f"{labels_project.title}: {state}, {labels_project.address}"])


def check_label_studio(project: Path) -> Iterator[Diagnosis]:
    """Yield for `doctor` whether Label Studio answers and its project is set up; nothing without LABEL_STUDIO_URL."""
    url = os.environ.get("LABEL_STUDIO_URL")
    if not url:
        return
    try:
        config, _ = compose(project)
        with connected() as server:
            labels_project = server.project(config.labels.title)
    except RunnerError as error:
        yield Diagnosis(f"Label Studio at {url}", str(error))
        return
    wanted = config.dataset.listed or labels_project.labels  # else the dataset's, which `labels setup` reads
    differs = [*labels_project.off, *(["labels"] if sorted(wanted) != sorted(labels_project.labels) else [])]
    yield Diagnosis(
        f"Label Studio at {url} has the project {labels_project.title}"
        + (f": {', '.join(differs)}" if differs else ""),
        "these differ from Git: run `python -m runner labels setup`" if differs else "",
    )


def _project(server: Server, config: Config, classes: list[str]) -> tuple[Project, list[str]]:
    title, wanted = config.labels.title, label_config(classes, config.labels.rotated)
    on: dict[str, Any] = dict.fromkeys(SETTINGS, True)
    labels_project = server.find_project(title)
    if labels_project is None:
        server.client.projects.create(title=title, label_config=wanted, model_version=PROPOSAL, **on)
        return server.project(title), [f"+ project {title}", *difference("<View />", wanted)]
    changes = difference(labels_project.label_config, wanted)
    removed = set(labels_project.labels) - set(classes)
    if removed and (used := removed & labels_used(labels_project)):
        raise LabelStudioError(
            f"{', '.join(sorted(used))}: annotations use labels that dataset.classes does not list; change those "
            f"annotations at {labels_project.address}, or list the labels again"
        )
    changes += [line for name in labels_project.off for line in (f"- {name}: false", f"+ {name}: true")]
    if changes:
        server.client.projects.update(labels_project.id, label_config=wanted, **on)
    return labels_project, changes


def _tab(labels_project: Project) -> list[str]:
    """Create the tab of waiting tasks, the most useful first, or restore its order and filter; its columns stay."""
    waiting = {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True}
    wanted: dict[str, Any] = {
        "ordering": ["-tasks:data.priority"],
        "filters": {"conjunction": "and", "items": [waiting]},
    }
    views = labels_project.server.client.views
    listed = views.list(project=labels_project.id)
    found = next((each for each in listed if (each.data or {}).get("title") == TAB), None)
    if found and all((found.data or {}).get(key) == value for key, value in wanted.items()):
        return []
    hidden = [f"tasks:{name}" for name in _HIDDEN]
    base = {"title": TAB, "type": "list", "target": "tasks", "hiddenColumns": {"explore": hidden, "labeling": hidden}}
    data: Any = {**base, **(found.data or {} if found else {}), **wanted}
    if found:
        views.update(str(found.id), project=labels_project.id, data=data)
        return [f"+ tab {TAB}: its order and filter again"]
    views.create(project=labels_project.id, data=data)
    if not listed:  # Label Studio makes a tab of all tasks only where there is none
        every: Any = {"title": "All", "type": "list", "target": "tasks"}
        views.create(project=labels_project.id, data=every)
    return [f"+ tab {TAB}"]


def _storage(labels_project: Project, store: Store) -> list[str]:
    """Connect the store's bucket, if it is one; Label Studio proxies the pictures, so browsers need no S3."""
    address = urlsplit(store.uri)
    if address.scheme != "s3":
        return []
    if not store.exists(_README):
        store.create(_README, b"Versions of datasets, and the pictures of Label Studio's tasks.\n")
    wanted: dict[str, Any] = {
        "bucket": address.netloc,
        "prefix": _PREFIX,
        "s3endpoint": _setting("AWS_ENDPOINT_URL"),
        "region_name": os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "presign": False,
        "use_blob_urls": True,
        "regex_filter": _NO_KEY,
    }
    keys = {key: _setting(key.upper()) for key in ("aws_access_key_id", "aws_secret_access_key")}
    storages = labels_project.server.client.import_storage.s3
    found = next((each for each in storages.list(project=labels_project.id) if each.bucket == address.netloc), None)
    if found is None:
        storages.create(project=labels_project.id, title="store", **wanted, **keys)
        return [f"+ storage s3://{address.netloc}"]
    changed = [name for name, value in wanted.items() if getattr(found, name) != value]
    if not changed and _is_readable(labels_project, found.id, wanted):
        return []
    storages.update(found.id, **wanted, **keys)
    if not changed:
        return ["+ storage: new keys, since the old ones were refused"]
    lines = ((f"- storage {name}: {getattr(found, name)}", f"+ storage {name}: {wanted[name]}") for name in changed)
    return [line for pair in lines for line in pair]


def _is_readable(labels_project: Project, storage_id: int, wanted: dict[str, Any]) -> bool:
    """Whether Label Studio can read the bucket with its stored keys, which it never shows.

    Validation also writes the given values, and Label Studio's defaults for the rest: so all values are given.
    """
    try:
        labels_project.server.client.import_storage.s3.validate(id=storage_id, project=labels_project.id, **wanted)
    except ApiError as error:
        if error.status_code in (400, 500):  # keys that the bucket does not know give 500
            return False
        raise
    return True


def _webhook(labels_project: Project) -> list[str]:
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
    hooks = labels_project.server.client.webhooks
    found = next((each for each in hooks.list(project=str(labels_project.id)) if each.url == url), None)
    if found is None:
        hooks.create(url=url, project=labels_project.id, **wanted)
        return [f"+ webhook {url}"]
    there = {**found.model_dump(), "actions": sorted(found.actions or [])}
    changed = [name for name, value in wanted.items() if there[name] != value]
    if changed:
        hooks.update(found.id or 0, url=url, **wanted)
    return [f"+ webhook {url}: new {', '.join(changed)}"] if changed else []


def _ml_backend(labels_project: Project) -> list[str]:
    """Connect the model server of LABEL_STUDIO_ML_BACKEND_URL, whose boxes Label Studio shows on tasks without any."""
    url = os.environ.get("LABEL_STUDIO_ML_BACKEND_URL")
    if not url:
        return []
    wanted: dict[str, Any] = {"url": url, "title": ML_BACKEND, "auth_method": "NONE"}
    if key := os.environ.get("LABEL_STUDIO_ML_BACKEND_KEY"):
        wanted |= {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass": key}
    client = labels_project.server.client
    found = next((each for each in client.ml.list(project=labels_project.id) if each.url == url), None)
    if found and found.id:
        if client.ml.get(found.id).state == "CO":  # connected: Label Studio asks the server before it answers
            return []
        client.ml.update(found.id, project=labels_project.id, **wanted)
        return [f"+ ML backend {url}: connected again"]
    client.ml.create(project=labels_project.id, **wanted)
    return [f"+ ML backend {url}"]


def _shown_boxes(labels_project: Project) -> list[str]:
    """Have *Label All Tasks*, which takes boxes of one name, show the proposals, or those that an ML backend draws."""
    client, wanted = labels_project.server.client, PROPOSAL
    if os.environ.get("LABEL_STUDIO_ML_BACKEND_URL"):
        wanted = ML_BACKEND
    if client.projects.get(labels_project.id).model_version == wanted:
        return []
    try:
        client.projects.update(labels_project.id, model_version=wanted)
    except ApiError as error:
        if error.status_code == 400:  # no task has boxes of that name yet; those of before are shown until then
            return []
        raise
    return [f"+ Label All Tasks shows the boxes of {wanted!r}"]


def _setting(name: str) -> str:
    """Return a store setting for Label Studio: LABEL_STUDIO_<name>, else <name>."""
    return os.environ.get(f"LABEL_STUDIO_{name}") or os.environ.get(name) or ""


def label_config(classes: Sequence[str], rotated: Literal["box", "refuse"]) -> str:
    """Return the labelling configuration for classes in id order, as XML: a rectangle label with a colour for each.

    The task's `note` stands above the picture.
    The colour depends only on the id. With `refuse`, the editor has no handle to turn a box. Format:
    https://labelstud.io/tags/rectanglelabels
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", {"value": "$note", "size": "5"})
    ElementTree.SubElement(view, "Image", {"name": TO_NAME, "value": "$image", "zoom": "true", "zoomControl": "true"})
    can_rotate = "true" if rotated == "box" else "false"
    attributes = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "2", "canRotate": can_rotate}
    labels = ElementTree.SubElement(view, "RectangleLabels", attributes)
    for number, name in enumerate(classes):
        rgb = colorsys.hsv_to_rgb((0.58 + number * _GOLDEN) % 1, 0.85, 0.9)
        colour = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
        ElementTree.SubElement(labels, "Label", {"value": name, "background": colour})
    return _format(view)


def difference(found: str, wanted: str) -> list[str]:
    """Return the differing lines of two configurations, `-` found and `+` wanted; empty when they are equivalent."""
    return [line.rstrip() for line in difflib.ndiff(_lines(found), _lines(wanted)) if line.startswith(("- ", "+ "))]


def _lines(config: str) -> list[str]:
    try:
        return _format(ElementTree.fromstring(config)).splitlines()
    except ElementTree.ParseError:
        return config.splitlines()


def _format(view: ElementTree.Element) -> str:
    for element in view.iter():
        element.attrib = dict(sorted(element.attrib.items()))
        element.text = element.tail = None
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")
