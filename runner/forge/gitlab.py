"""GitLab.

API: https://docs.gitlab.com/api/rest
"""

from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from runner.forge.address import Address
from runner.forge.github import shortened
from runner.forge.protocol import NO_COMMIT, Identity, State, Webhook
from runner.forge.rest import Api, ApiError

_STATES = {"error": "failed", "failure": "failed", "pending": "pending", "success": "success"}
_LONGEST_STATUS = 255  # characters that GitLab takes


class GitLab:
    """A project on GitLab."""

    NAMES: ClassVar[tuple[str, ...]] = ("gitlab",)
    HOSTS: ClassVar[tuple[str, ...]] = ("gitlab.com",)
    API_PATH: ClassVar[str] = "/api/v4"

    def __init__(self, address: Address, api: Api) -> None:
        self.address, self.api = address, api
        self.project = f"/projects/{quote(address.path, safe='')}"

    @classmethod
    def api_of(cls, site: str) -> str:
        return f"{site}{cls.API_PATH}"

    def set_status(self, commit: str, state: State, text: str, context: str) -> None:
        # It becomes a job of the stage external.
        status = {"state": _STATES[state], "description": shortened(text, _LONGEST_STATUS), "name": context}
        self.api.ask("POST", f"{self.project}/statuses/{commit}", status)

    def may_set_status(self) -> bool | None:
        try:  # the right is asked before the commit
            self.set_status(NO_COMMIT, "success", "tried", "flywheel/doctor")
        except ApiError as error:
            if error.code == 404:
                return True if "Commit Not Found" in str(error) else None  # else: no such project, for this token
            return False if error.code in (401, 403) else None
        return None

    def find_pull(self, branch: str, base: str) -> str:
        for found in self._merge_requests("opened", branch, base):
            if found["source_project_id"] == found["target_project_id"]:  # a fork may have a branch of the name
                return f"{self.project}/merge_requests/{found['iid']}"
        return ""

    def declined_pull(self, branch: str, base: str, commit: str) -> str:
        found = self._merge_requests("closed", branch, base)
        return next((str(each["web_url"]) for each in found if each["sha"] == commit), "")

    def _merge_requests(self, state: str, branch: str, base: str) -> Any:
        query = {"state": state, "source_branch": branch, "target_branch": base}
        return self.api.ask("GET", f"{self.project}/merge_requests?{urlencode(query)}")

    def open_pull(self, branch: str, base: str, title: str, body: str) -> str:
        content = {"source_branch": branch, "target_branch": base, "title": title, "description": body}
        return str(self.api.ask("POST", f"{self.project}/merge_requests", content)["web_url"])

    def update_pull(self, pull: str, title: str, body: str) -> str:
        return str(self.api.ask("PUT", pull, {"title": title, "description": body})["web_url"])

    def pull_link(self, branch: str, base: str) -> str:
        query = {"merge_request[source_branch]": branch, "merge_request[target_branch]": base}
        return f"{self.address.page}/-/merge_requests/new?{urlencode(query)}"

    def file_link(self, commit: str, path: str) -> str:
        return f"{self.address.page}/-/raw/{commit}/{quote(path)}"

    def webhooks(self) -> Iterator[Webhook]:
        for hook in self.api.ask("GET", f"{self.project}/hooks?per_page=100"):
            yield Webhook(str(hook.get("url", "")), list(_faults(hook)))

    def identity(self) -> Identity:
        user = self.api.ask("GET", "/user")  # the token's scope must have read_user or api
        return Identity(user["name"], user.get("commit_email") or user["email"])


def _faults(hook: dict[str, Any]) -> Iterator[str]:
    if not hook.get("push_events"):
        yield "it sends no push events"
    if (status := hook.get("alert_status", "executable")) != "executable":
        yield f"GitLab has switched it off ({status}) after deliveries that failed"
