"""Label Studio's tasks: their pictures, out of Label Studio or one bucket and from nowhere else, and boxes in its form.

Whoever writes a task names its picture, so a name is never an address: it selects a path of LABEL_STUDIO_URL or a key
of ML_BACKEND_BUCKET. Format of predictions: https://labelstud.io/guide/predictions
"""

import re
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from serving.errors import Refused
from serving.settings import Settings
from serving.storage.detections import Detection
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.objects import StorageError, read

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

_MOST_NAME, _MOST_CONFIG = 4_000, 200_000  # characters
# Of uploads and local files; of objects of a storage, which Label Studio sends itself. Nothing else is asked for with
# its token, or a task could make it do something.
_PATHS = re.compile(r"/(data/.+|storage-data/.+|(tasks|projects)/[0-9]+/resolve/?)")
_SAFE = "/%:@!$&'()*+,;=~"  # of a path and a query, not to be quoted
_QUIET_SECONDS = 10.0  # that Label Studio may send nothing
_ACCESS_SECONDS = 200.0  # that an access token is used; it is valid for 300
_CHUNK = 65_536


class Tags(NamedTuple):
    """Tags of a labelling configuration that boxes belong to."""

    from_name: str  # of RectangleLabels
    to_name: str  # of Image
    key: str  # in a task's data, of the picture
    labels: frozenset[str]


def read_tags(config: str) -> Tags:
    """Return the first boxes of a labelling configuration and their picture; Refused: there are none."""
    expected = "expected a labelling configuration with RectangleLabels for an Image whose value is a $variable"
    try:
        if len(config) > _MOST_CONFIG or re.search("<!(DOCTYPE|ENTITY)", config, re.IGNORECASE):
            raise Refused(422, f"label_config is too long, or defines entities; {expected}")
        root = ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise Refused(422, f"label_config is no XML; {expected}") from error
    images = {tag.get("name", ""): tag.get("value", "") for tag in root.iter("Image")}
    for tag in root.iter("RectangleLabels"):
        name, image = tag.get("name", ""), tag.get("toName", "")
        if name and images.get(image, "").startswith("$"):
            labels = frozenset(label.get("value", "") for label in tag.iter("Label"))
            return Tags(name, image, images[image][1:], labels)
    raise Refused(422, f"label_config has no boxes; {expected}")


def regions(detections: Sequence[Detection], width: int, height: int, tags: Tags) -> list[dict[str, Any]]:
    """Return the detections of labels that the project has, in percent of a picture of width x height pixels."""
    return [
        {
            "id": f"box{number}",
            "from_name": tags.from_name,
            "to_name": tags.to_name,
            "type": "rectanglelabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": found.confidence,
            "value": {
                "x": 100 * found.box.x1 / width,
                "y": 100 * found.box.y1 / height,
                "width": 100 * (found.box.x2 - found.box.x1) / width,
                "height": 100 * (found.box.y2 - found.box.y1) / height,
                "rotation": 0,
                "rectanglelabels": [found.label],
            },
        }
        for number, found in enumerate(detections)
        if found.label in tags.labels
    ]


class TaskPictures:
    """Fetches the pictures of tasks; thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._site = (settings.label_studio_url or "").rstrip("/")
        self._bucket = (settings.ml_backend_bucket or "").rstrip("/")
        key = settings.label_studio_api_key
        self._key = key.get_secret_value() if key else ""
        self._most, self._seconds = settings.max_picture_bytes, settings.upload_seconds
        self._endpoint = endpoint_of_environment()
        self._access = ("", 0.0)  # token, and until when
        self._pool: HTTPConnectionPool | None = None

    def fetch(self, name: object) -> bytes:
        """Return the file that a task names; Refused: none of Label Studio or the bucket, missing, or too large."""
        if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or not name.isprintable() or "\\" in name:
            raise _elsewhere(name)
        if self._bucket and name.startswith(f"{self._bucket}/"):
            return self._object(name)
        if self._site and (path := self._path(name)):
            return self._download(path)
        raise _elsewhere(name)

    def _path(self, name: str) -> str:
        """Return the path and query, below LABEL_STUDIO_URL, that a task names; empty: none that may be fetched."""
        rest = name.removeprefix(self._site)
        prefix = urlsplit(self._site).path
        if prefix and rest.startswith(f"{prefix}/"):
            rest = rest.removeprefix(prefix)
        path, mark, query = rest.partition("?")
        if not _PATHS.fullmatch(path) or "#" in rest or _climbs(path) or "//" in path:
            return ""
        return prefix + quote(path, safe=_SAFE) + mark + quote(query, safe=f"{_SAFE}?")

    def _object(self, uri: str) -> bytes:
        if _climbs(uri) or "?" in uri or "#" in uri:
            raise _elsewhere(uri)
        try:
            return read(uri, self._endpoint, self._most)
        except StorageError as error:
            raise Refused(422, f"the picture of the task: {error}", "storage") from error

    def _download(self, path: str) -> bytes:
        from urllib3.exceptions import HTTPError

        end = monotonic() + self._seconds
        try:
            with self._ask("GET", path, Authorization=self._authorization()) as answer:
                _check_status(answer, path)
                data = bytearray()
                while chunk := answer.read1(_CHUNK, decode_content=False):
                    data += chunk
                    if len(data) > self._most:
                        raise Refused(413, f"the picture has more than {self._most:,} bytes; expected at most that")
                    if monotonic() > end:
                        raise Refused(
                            503, f"Label Studio did not send the picture within {self._seconds:g} s", "storage"
                        )
                return bytes(data)
        except (HTTPError, OSError) as error:
            raise Refused(503, f"Label Studio does not answer: {type(error).__name__}", "storage") from error

    def _authorization(self) -> str:
        """Return the header's value: a legacy token as it is, a personal access token exchanged for one of minutes."""
        if self._key.count(".") != 2:
            return f"Token {self._key}" if self._key else ""
        token, until = self._access
        if monotonic() > until:
            path = f"{urlsplit(self._site).path}/api/token/refresh/"
            with self._ask("POST", path, json={"refresh": self._key}) as answer:
                _check_status(answer, path)
                try:
                    token = str(answer.json()["access"])
                except (ValueError, KeyError, TypeError) as error:
                    raise Refused(503, "Label Studio gives no access token; expected JSON", "storage") from error
            self._access = token, monotonic() + _ACCESS_SECONDS
        return f"Bearer {token}"

    def _ask(self, method: str, path: str, json: Any = None, **headers: str) -> "BaseHTTPResponse":
        """Send a request to Label Studio, and to nobody else: no redirect is followed."""
        import urllib3  # only where it is used, as in storage.endpoint

        if self._pool is None:
            pools = urllib3.PoolManager(maxsize=8, ca_certs=self._endpoint.ca_bundle)
            self._pool = pools.connection_from_url(self._site)
        timeout = urllib3.Timeout(connect=_QUIET_SECONDS, read=_QUIET_SECONDS)
        sent = {"Accept-Encoding": "identity"} | {key: value for key, value in headers.items() if value}
        return self._pool.request(
            method, path, json=json, headers=sent, timeout=timeout, redirect=False, retries=False, preload_content=False
        )


def _check_status(answer: "BaseHTTPResponse", path: str) -> None:
    if 300 <= answer.status < 400:
        raise Refused(422, f"Label Studio redirects {path[:200]}, which is not followed", "elsewhere")
    if answer.status != 200:
        raise Refused(
            422, f"Label Studio answers {answer.status} to {path[:200]}; check LABEL_STUDIO_API_KEY", "storage"
        )


def _climbs(path: str) -> bool:
    """Whether a path has a segment that leads upward, however often it is quoted."""
    while (plain := unquote(path)) != path:
        path = plain
    return any(part in (".", "..") for part in re.split(r"[/\\]", path))


def _elsewhere(name: object) -> Refused:
    return Refused(
        422,
        f"the picture of the task is {str(name)[:200]!r}; expected an upload of LABEL_STUDIO_URL, or s3:// in "
        "ML_BACKEND_BUCKET",
        "elsewhere",
    )
