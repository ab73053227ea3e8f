"""GitHub, and GitHub Enterprise Server.

API: https://docs.github.com/en/rest
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from runner.forge.address import Address
from runner.forge.protocol import NO_COMMIT, Identity, State, Webhook
from runner.forge.rest import Api, ApiError

_LONGEST_STATUS = 140  # characters that GitHub takes


class GitHub:
    """A repository on GitHub."""

    NAMES: ClassVar[tuple[str, ...]] = ("github",)
    HOSTS: ClassVar[tuple[str, ...]] = ("github.com",)
    API_PATH: ClassVar[str] = "/api/v3"
    NO_SUCH_COMMIT: ClassVar[int] = 422  # the answer to who may set a status, where the commit does not exist

    def __init__(self, address: Address, api: Api) -> None:
        self.address, self.api = address, api
        self.repository = f"/repos/{address.path}"

    @classmethod
    def api_of(cls, site: str) -> str:
        return "https://api.github.com" if site == "https://github.com" else f"{site}{cls.API_PATH}"

    def set_status(self, commit: str, state: State, text: str, context: str) -> None:
        status = {"state": state, "description": shortened(text, _LONGEST_STATUS), "context": context}
        self.api.ask("POST", f"{self.repository}/statuses/{commit}", status)

    def may_set_status(self) -> bool | None:
        try:
            self.set_status(NO_COMMIT, "success", "tried", "flywheel/doctor")
        except ApiError as error:
            return {401: False, 403: False, self.NO_SUCH_COMMIT: True}.get(error.code)
        return None

    def find_pull(self, branch: str, base: str) -> str:
        found = self._pulls("open", branch, base)
        return f"{self.repository}/pulls/{found[0]['number']}" if found else ""

    def _pulls(self, state: str, branch: str, base: str) -> Any:
        head = quote(f"{self.address.path.partition('/')[0]}:{branch}", safe="")
        return self.api.ask("GET", f"{self.repository}/pulls?state={state}&head={head}&base={quote(base, safe='')}")

    def declined_pull(self, branch: str, base: str, commit: str) -> str:
        return declined(self._pulls("closed", branch, base), commit)

    def open_pull(self, branch: str, base: str, title: str, body: str) -> str:
        content = {"title": title, "body": body, "head": branch, "base": base}
        return str(self.api.ask("POST", f"{self.repository}/pulls", content)["html_url"])

    def update_pull(self, pull: str, title: str, body: str) -> str:
        return str(self.api.ask("PATCH", pull, {"title": title, "body": body})["html_url"])

    def pull_link(self, branch: str, base: str) -> str:
        return f"{self.address.page}/compare/{quote(base)}...{quote(branch)}?expand=1"

    def file_link(self, commit: str, path: str) -> str:
        return f"{self.address.page}/raw/{commit}/{quote(path)}"

    def webhooks(self) -> Iterator[Webhook]:
        for hook in self.api.ask("GET", f"{self.repository}/hooks?per_page=100"):
            yield Webhook(str(hook.get("config", {}).get("url", "")), list(_faults(hook)))

    def identity(self) -> Identity:
        user = self.api.ask("GET", "/user")  # an App's token has none
        host = urlsplit(self.address.site).hostname
        return Identity(user["login"], f"{user['id']}+{user['login']}@users.noreply.{host}")  # which no mail reaches


def declined(pulls: Iterable[Mapping[str, Any]], commit: str) -> str:
    """Return the page of the first of these closed pull requests that had this commit and was not merged."""
    return next((str(it["html_url"]) for it in pulls if it["head"]["sha"] == commit and not it["merged_at"]), "")


def shortened(text: str, limit: int) -> str:
    """Return a text cut to a number of characters, with `…` at its end then."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _faults(hook: Mapping[str, Any]) -> Iterator[str]:
    events, content_type = hook.get("events", []), hook.get("config", {}).get("content_type")
    if not hook.get("active", True):
        yield "it is not active"
    if not {"push", "*"} & set(events):
        yield f"it sends {', '.join(events) or 'nothing'}, expected push"
    if content_type != "json":
        yield f"its content type is {content_type}, expected json"
    last = hook.get("last_response") or {}
    if last.get("code") and not 200 <= last["code"] < 300:
        yield f"its last delivery ended with {last['code']} {last.get('message') or ''}".rstrip()
