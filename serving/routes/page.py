"""Page for people: /try, its files, and what it needs to know. It asks the other routes, as every client does."""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.responses import RedirectResponse

from serving.settings import Settings
from serving.state import Shared

router = APIRouter(include_in_schema=False)
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    path.name: (path.read_bytes(), _KINDS[path.suffix])
    for path in (Path(__file__).parents[1] / "page").iterdir()
    if path.suffix in _KINDS
}
_PAGE = "try.html"
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}


class PageSettings(BaseModel):
    """What the page has to know of its server."""

    environment: str
    keeps_pictures: bool  # whether /feedback is taken
    max_picture_bytes: int
    max_feedback_boxes: int
    compare_urls: tuple[str, ...]


@router.get("/")
async def home(request: Request) -> Response:
    """Redirect to the page."""
    return RedirectResponse(_address(request))


@router.get("/try")
async def page(request: Request, state: Shared) -> Response:
    """The page; its policy lets it load and reach this server, and send requests to those of COMPARE_URLS."""
    if request.scope.get("raw_path", b"").endswith(b"/"):  # its links are relative
        return RedirectResponse(_address(request))
    return _answer(_PAGE, _policy(state.settings))


@router.get("/try/settings")
async def settings(state: Shared) -> PageSettings:
    """What the page has to know of its server; no secret, as the page itself needs no key."""
    known = state.settings
    return PageSettings(
        environment=known.environment,
        keeps_pictures=state.captures.on,
        max_picture_bytes=known.max_picture_bytes,
        max_feedback_boxes=known.max_feedback_boxes,
        compare_urls=known.compare_urls,
    )


@router.get("/try/{name}")
async def file(name: str, state: Shared) -> Response:
    """A file of the page."""
    if name not in _FILES or name == _PAGE:
        raise HTTPException(404)
    return _answer(name, _policy(state.settings))


def _address(request: Request) -> str:
    return f"{request.scope.get('root_path', '').rstrip('/')}/try"


def _answer(name: str, policy: str) -> Response:
    content, kind = _FILES[name]
    return Response(content, media_type=kind, headers={**_HEADERS, "Content-Security-Policy": policy})


def _policy(settings: Settings) -> str:
    """Return the Content-Security-Policy; parse_urls lets no URL through that could add to it."""
    rules = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        " ".join(("connect-src 'self'", *settings.compare_urls)),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)
