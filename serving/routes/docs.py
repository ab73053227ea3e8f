"""API page: Swagger UI from the files of an installed package, so that it works without the internet."""

from importlib.resources import as_file, files

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = "/static"
router = APIRouter(include_in_schema=False)


def mount(app: FastAPI) -> None:
    """Serve the files of Swagger UI: version 5, because 4 cannot show OpenAPI 3.1."""
    with as_file(files("fastapi_offline") / "static") as folder:
        app.mount(STATIC, StaticFiles(directory=folder), name="static")


@router.get("/")
async def home(request: Request) -> Response:
    """Redirect to the page."""
    return RedirectResponse(f"{_root(request)}/docs")


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI, ready to try out."""
    root = _root(request)
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{root}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{root}{STATIC}/favicon.png",
        oauth2_redirect_url=None,
        swagger_ui_parameters={
            "tryItOutEnabled": True,
            "displayRequestDuration": True,
            "defaultModelsExpandDepth": 0,
            "persistAuthorization": True,
            "validatorUrl": None,  # otherwise the page calls a server on the internet
            "docExpansion": "list",
        },
    )


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")
