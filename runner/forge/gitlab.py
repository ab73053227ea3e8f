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

    @staticmethod
    def api_of(site: str) -> str:
        """Return the API's address of a server."""
        return f"{site}{GitLab.API_PATH}"

    def set_status(self, commit: str, state: State, text: str, context: str) -> None:
        """Set a commit's status, a job `context` of the stage external; https://docs.gitlab.com/api/commits."""
        status = {"state": _STATES[state], "description": shortened(text, _LONGEST_STATUS), "name": context}
        self.api.ask("POST", f"{self.project}/statuses/{commit}", status)

    def may_set_status(self) -> bool | None:
        """Whether the token may set statuses: the right is asked before the commit, and both are told in the answer."""
        try:
            self.set_status(NO_COMMIT, "success", "tried", "flywheel/doctor")
        except ApiError as error:
            if error.code == 404:
                return True if "Commit Not Found" in str(error) else None  # else: no such project, for this token
            return False if error.code in (401, 403) else None
        return None

    def find_pull(self, branch: str, base: str) -> str:
        """Return the path in the API of the open merge request; https://docs.gitlab.com/api/merge_requests."""
        query = {"state": "opened", "source_branch": branch, "target_branch": base}
        for found in self.api.ask("GET", f"{self.project}/merge_requests?{urlencode(query)}"):
            if found["source_project_id"] == found["target_project_id"]:  # a fork may have a branch of the name
                return f"{self.project}/merge_requests/{found['iid']}"
        return ""

    def declined_pull(self, branch: str, base: str, commit: str) -> str:
        """Return the page of a merge request that was closed at this commit without a merge; empty for none."""
        query = {"state": "closed", "source_branch": branch, "target_branch": base}
        found = self.api.ask("GET", f"{self.project}/merge_requests?{urlencode(query)}")
        return next((str(each["web_url"]) for each in found if each["sha"] == commit), "")

    def open_pull(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a merge request; return its page."""
        content = {"source_branch": branch, "target_branch": base, "title": title, "description": body}
        return str(self.api.ask("POST", f"{self.project}/merge_requests", content)["web_url"])

    def update_pull(self, pull: str, title: str, body: str) -> str:
        """Set title and text of a merge request; return its page."""
        return str(self.api.ask("PUT", pull, {"title": title, "description": body})["web_url"])

    def pull_link(self, branch: str, base: str) -> str:
        """Return the page on which a person opens the merge request."""
        query = {"merge_request[source_branch]": branch, "merge_request[target_branch]": base}
        return f"{self.address.page}/-/merge_requests/new?{urlencode(query)}"

    def file_link(self, commit: str, path: str) -> str:
        """Return the address of a file's bytes at a commit."""
        return f"{self.address.page}/-/raw/{commit}/{quote(path)}"

    def webhooks(self) -> Iterator[Webhook]:
        """Yield the project's webhooks; https://docs.gitlab.com/api/project_webhooks."""
        for hook in self.api.ask("GET", f"{self.project}/hooks?per_page=100"):
            yield Webhook(str(hook.get("url", "")), list(_faults(hook)))

    def identity(self) -> Identity:
        """Return the token's account, with the address that it commits with; the scope must have read_user or api."""
        user = self.api.ask("GET", "/user")
        return Identity(user["name"], user.get("commit_email") or user["email"])


def _faults(hook: dict[str, Any]) -> Iterator[str]:
    if not hook.get("push_events"):
        yield "it sends no push events"
    if (status := hook.get("alert_status", "executable")) != "executable":
        yield f"GitLab has switched it off ({status}) after deliveries that failed"
