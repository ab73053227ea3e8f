"""OpenAPI page: its texts and settings, and the pieces that types cannot express: forms with files, and refusals.

Swagger UI's files come from the package fastapi_offline, so that the page works without the internet.
"""

from typing import Any

from serving.responses import Error

DESCRIPTION = """Detects objects in pictures. **To try it**: open `POST /detect/image`, choose a file, press *Execute*:
the picture comes back with boxes. `POST /detect` returns the same as numbers. Did the model miss something? Report it
with `POST /feedback` and the answer's `request_id`."""
TAGS = [
    {"name": "Detect", "description": "find objects"},
    {"name": "Feedback", "description": "report mistakes of the model"},
    {"name": "Operate", "description": "for operators of the server"},
]
STATIC = "/static"
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
FILES = {"files": {"type": "array", "items": _BINARY, "minItems": 1, "description": "the pictures"}}
_RETRY = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}


def _refusal(text: str) -> dict[str, Any]:
    return {"model": Error, "description": text}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refusal("The file or the form is damaged or incomplete"),
    401: _refusal("The key is missing or wrong"),
    408: _refusal("The file did not arrive in time"),
    413: _refusal("Too many bytes, pixels or files"),
    415: _refusal("Not a picture, or an unsupported format"),
    422: _refusal("A parameter is wrong or missing"),
    503: {**_refusal("Too busy, or not ready yet; try again"), "headers": _RETRY},
}


def form_body(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """Return the OpenAPI schema of a multipart form; None: all fields are required."""
    schema = {"type": "object", "properties": properties, "required": required or list(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
