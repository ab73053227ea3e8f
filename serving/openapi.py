"""OpenAPI page: its texts and settings, and the pieces that types cannot express: forms with files, and refusals.

Swagger UI's files come from the package fastapi_offline, so that the page works without the internet.
"""

import copy
from collections.abc import Sequence
from typing import Any

from serving.responses import Error
from serving.vision.picture import EXPECTED

DESCRIPTION = """Detects objects in pictures. **To try it**: drop a picture on [the page for people](try), or open
`POST /detect/image`, choose a file, press *Execute*: the picture comes back with boxes. `POST /detect` returns the same
as numbers. Did the model miss something? Report it with `POST /feedback` and the answer's `request_id`."""
TAGS = [
    {"name": "Detect", "description": "find objects"},
    {"name": "Feedback", "description": "report mistakes of the model"},
    {"name": "Operate", "description": "for operators of the server"},
]
STATIC = "/static"
_SHOWN = 100  # classes
PAGE = {
    "tryItOutEnabled": True,
    "displayRequestDuration": True,
    "defaultModelsExpandDepth": 0,
    "persistAuthorization": True,
    "validatorUrl": None,  # otherwise the page calls a server on the internet
    "docExpansion": "list",
}
_BINARY = {"type": "string", "format": "binary"}
FILE = {"file": {**_BINARY, "description": "the picture"}}
FILES = {
    "files": {
        "type": "array",
        "items": _BINARY,
        "minItems": 1,
        "description": "the pictures; on this page, *Add string item* for each",
    }
}
FILM = {"file": {**_BINARY, "description": "the video: mp4, mov or m4v"}}
_TEXT = {"schema": {"type": "string"}}
# Generated clients know no image/jpeg, but bytes: the picture as a JPEG, by another name.
PICTURE: dict[str, Any] = {
    "description": "The picture",
    "content": {kind: {"schema": _BINARY} for kind in ("image/jpeg", "image/png", "application/octet-stream")},
    "headers": {
        "X-Request-ID": {"description": "for /feedback", **_TEXT},
        "X-Detections": {"description": "number of detections", "schema": {"type": "integer"}},
    },
}
VIDEO: dict[str, Any] = {
    "description": "The detections; or the drawn video, where *Media type* below is `video/mp4`",
    "content": {"video/mp4": {"schema": _BINARY}},
}
TEXT: dict[str, Any] = {"content": {"text/plain": _TEXT}}
_RETRY = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}


def refusal(text: str, example: str) -> dict[str, Any]:
    """Return the OpenAPI description of a refusal, with an error text that fits it."""
    content = {"error": example, "request_id": "5b2e0c6e9d0e4f0fa1b7e5a9a3c1d2e4"}
    return {"model": Error, "description": text, "content": {"application/json": {"example": content}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: refusal(
        "The file or the form is damaged or incomplete",
        "damaged or truncated JPEG picture (image file is truncated); expected one that opens in a picture viewer",
    ),
    401: refusal("The key is missing or wrong", "the X-API-Key header is missing or wrong; expected the key"),
    403: refusal(
        "A page of another server sent this, whose origin is not in CORS_ORIGINS",
        "a page of another server sent this (https://a.org); expected this server's own, or one of CORS_ORIGINS",
    ),
    408: refusal("The file did not arrive in time", "the body did not arrive within 30 s; try again"),
    413: refusal("Too many bytes, pixels or files", "the picture has 31,457,280 bytes; expected at most 20,000,000"),
    415: refusal("Not a picture, or an unsupported format", f"not a picture of a known kind; {EXPECTED}"),
    422: refusal("A parameter is wrong or missing", "the form has 0 files in `file`; expected one file in `file`"),
    503: {
        **refusal("Too busy, or not ready yet; try again", "32 pictures are waiting already; try again in a second"),
        "headers": _RETRY,
    },
}


def form_body(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """Return the OpenAPI schema of a multipart form; None: all fields are required."""
    schema = {"type": "object", "properties": properties, "required": required or list(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def with_classes(schema: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the OpenAPI schema with the names of the model's classes wherever a caller types them."""
    names = ", ".join(f"`{name[:50]}`" for name in classes[:_SHOWN]) + (", …" if len(classes) > _SHOWN else "")
    schema = copy.deepcopy(schema)
    for path in schema["paths"].values():
        for parameter in path.get("post", {}).get("parameters", ()):
            if parameter["name"] == "classes":
                parameter["description"] += f" The model knows {names}."
    return schema
