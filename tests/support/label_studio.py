"""A real Label Studio on loopback, which `make label-studio` installs into an environment of its own."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from filelock import FileLock

from tests.support.processes import CACHE, Restartable, free_port, start, unavailable

HOME = CACHE / "label-studio"
PROGRAM = HOME / "venv" / "bin" / "label-studio"


@dataclass
class LabelStudio(Restartable):
    """A server that starts on a copy of an empty database, since making one takes 40 s and more."""

    folder: Path
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    guarded: bool = False  # refuses to call private addresses, as it does by default
    settings: dict[str, str] = field(default_factory=dict, repr=False)  # instead of those of the tests

    @property
    def url(self) -> str:
        """What LABEL_STUDIO_URL is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What names it to us, with the legacy token."""
        return {"LABEL_STUDIO_URL": self.url, "LABEL_STUDIO_API_KEY": self.token}

    def start(self) -> Self:
        """Begin, on a free port the first time; return when it answers."""
        data = self.folder / "data"
        if not data.exists() and not self.settings:
            shutil.copytree(fresh_data(), data)
        self.port = self.port or free_port()
        command = [str(PROGRAM), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]
        options: dict[str, Any] = {"env": plain_environment() | self._settings(), "start_new_session": True}
        options["seconds"] = 300  # a machine that is busy takes longer than start's own limit
        options["cwd"] = self.folder
        self.process = start(
            command, self.folder / "log", lambda: httpx.get(f"{self.url}/health", timeout=5).is_success, **options
        )
        return self

    def personal_token(self) -> str:
        """A personal access token; the user has one at a time."""
        for old in self.ask("GET", "/api/token/"):
            self.ask("POST", "/api/token/blacklist/", json={"refresh": old["token"]})
        return str(self.ask("POST", "/api/token/")["token"])

    def join(self, email: str) -> str:
        """Sign up by the invitation link, as a second annotator does; return that person's legacy token."""
        link = f"{self.url}{self.ask('GET', '/api/invite')['invite_url']}"
        with httpx.Client(timeout=60, follow_redirects=True, headers={"Referer": link}) as browser:
            browser.get(link).raise_for_status()
            form = {"email": email, "password": secrets.token_hex(16)}
            form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
            browser.post(link, data=form).raise_for_status()
            return str(browser.get(f"{self.url}/api/current-user/token").raise_for_status().json()["token"])

    def ask(self, method: str, path: str, *, token: str | None = None, **options: Any) -> Any:
        """Call its API as a person's browser or script does; return the JSON. `token` is another person's."""
        headers = {"Authorization": f"Token {token or self.token}"}
        answer = httpx.request(method, self.url + path, headers=headers, timeout=60, **options)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def fetch(self, path: str) -> bytes:
        """Return a picture as it shows it: what a task's data name, resolved as the page gets it."""
        address = path if path.startswith(self.url) else self.url + path
        headers = {"Authorization": f"Token {self.token}"}
        return httpx.get(address, headers=headers, timeout=60, follow_redirects=True).raise_for_status().content

    def _settings(self) -> dict[str, str]:
        return self.settings or {
            **_quiet(self.folder / "data"),
            "LABEL_STUDIO_USERNAME": "annotator@example.com",
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_HOST": self.url,
            "fflag_fix_back_lsdv_4523_show_overlap_first_order_27022023_short": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            # The default ones include loopback, where the store of the tests is.
            "USE_DEFAULT_BANNED_SUBNETS": str(self.guarded).lower(),
            "USER_ADDITIONAL_BANNED_SUBNETS": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,fc00::/7",
        }


@contextlib.contextmanager
def labelling(folder: Path) -> Iterator[LabelStudio]:
    """A server until the block ends; skips where it is not installed, but fails in CI."""
    if not PROGRAM.exists():
        unavailable("the tests of labels need Label Studio: run `make label-studio`")
    server = LabelStudio(folder)
    try:
        yield server.start()
    finally:
        server.stop()


def fresh_data() -> Path:
    """The data folder to copy, of the version that is installed; made the first time."""
    folder = HOME / version()
    with FileLock(HOME / "data.lock"):  # pytest's workers may all want it first
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=HOME) as scratch:
                data = Path(scratch, "data")
                migrate(_quiet(data))
                data.rename(folder)
    return folder


def version() -> str:
    """Return label_studio-<version>, of what is installed."""
    (found,) = (path.stem for path in _site().glob("label_studio-*.dist-info"))
    return found


def migrate(settings: dict[str, str]) -> None:
    """Make the tables of the database that settings name."""
    subprocess.run(
        [HOME / "venv/bin/python", _site() / "label_studio/manage.py", "migrate", "-v", "0"],
        env=plain_environment() | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )


def _site() -> Path:
    (site,) = (HOME / "venv" / "lib").glob("python*/site-packages")
    return site


def _quiet(data: Path) -> dict[str, str]:
    """Settings: where its data are, and that it calls nobody."""
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def plain_environment() -> dict[str, str]:
    """This shell's, without what Label Studio would take for its own settings."""
    theirs = ("LABEL_STUDIO_", "HEARTEX_", "AWS_", "S3_", "DJANGO_", "PYTHON", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(theirs)}
