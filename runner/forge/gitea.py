"""Gitea and Forgejo, whose API is GitHub's in statuses, webhooks, and the opening of pull requests.

API: https://docs.gitea.com/api, https://codeberg.org/api/swagger
"""

from itertools import count
from typing import ClassVar
from urllib.parse import quote

from runner.forge.github import GitHub, declined
from runner.forge.protocol import NO_COMMIT, Identity
from runner.forge.rest import ApiError

_PAGE = 50  # it lists no more at once


class Gitea(GitHub):
    """A repository on Gitea or Forgejo."""

    NAMES: ClassVar[tuple[str, ...]] = ("gitea", "forgejo")
    HOSTS: ClassVar[tuple[str, ...]] = ("gitea.com", "codeberg.org")
    API_PATH: ClassVar[str] = "/api/v1"

    @staticmethod
    def api_of(site: str) -> str:
        """Return the API's address of a server."""
        return f"{site}{Gitea.API_PATH}"

    def may_set_status(self) -> bool | None:
        """Whether the token may set statuses: Gitea answers 500 to who may, as the commit does not exist."""
        try:
            self.set_status(NO_COMMIT, "success", "tried", "flywheel/doctor")
        except ApiError as error:
            return {401: False, 403: False, 500: True}.get(error.code)
        return None

    def find_pull(self, branch: str, base: str) -> str:
        """Return the path in the API of the open pull request; the list cannot be asked for a branch."""
        for page in count(1):
            pulls = self.api.ask("GET", f"{self.repository}/pulls?state=open&limit={_PAGE}&page={page}")
            for pull in pulls:
                head = pull["head"]
                is_ours = head["repo_id"] == pull["base"]["repo_id"]  # a fork may have a branch of the name
                if is_ours and (head["ref"], pull["base"]["ref"]) == (branch, base):
                    return f"{self.repository}/pulls/{pull['number']}"
            if not pulls:
                break
        return ""

    def declined_pull(self, branch: str, base: str, commit: str) -> str:
        """Return the page of a pull request that was closed at this commit without a merge, of the newest fifty."""
        query = f"state=closed&sort=recentupdate&limit={_PAGE}"
        return declined(self.api.ask("GET", f"{self.repository}/pulls?{query}"), commit)

    def pull_link(self, branch: str, base: str) -> str:
        """Return the page on which a person opens the pull request."""
        return f"{self.address.page}/compare/{quote(base)}...{quote(branch)}"

    def file_link(self, commit: str, path: str) -> str:
        """Return the address of a file's bytes at a commit."""
        return f"{self.address.page}/raw/commit/{commit}/{quote(path)}"

    def identity(self) -> Identity:
        """Return the token's account; the token's scope must have read:user."""
        user = self.api.ask("GET", "/user")
        return Identity(user["full_name"] or user["login"], user["email"])
