"""Gitea and Forgejo, whose API is GitHub's in statuses, webhooks, and the opening of pull requests.

API: https://docs.gitea.com/api, https://codeberg.org/api/swagger
"""

from itertools import count
from typing import ClassVar
from urllib.parse import quote

from runner.forge.github import GitHub, declined
from runner.forge.protocol import Identity

_PAGE = 50  # it lists no more at once


class Gitea(GitHub):
    """A repository on Gitea or Forgejo."""

    NAMES: ClassVar[tuple[str, ...]] = ("gitea", "forgejo")
    HOSTS: ClassVar[tuple[str, ...]] = ("gitea.com", "codeberg.org")
    API_PATH: ClassVar[str] = "/api/v1"
    NO_SUCH_COMMIT: ClassVar[int] = 500

    def find_pull(self, branch: str, base: str) -> str:
        for page in count(1):  # the list cannot be asked for a branch
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
        query = f"state=closed&sort=recentupdate&limit={_PAGE}"
        return declined(self.api.ask("GET", f"{self.repository}/pulls?{query}"), commit)

    def pull_link(self, branch: str, base: str) -> str:
        return f"{self.address.page}/compare/{quote(base)}...{quote(branch)}"

    def file_link(self, commit: str, path: str) -> str:
        return f"{self.address.page}/raw/commit/{commit}/{quote(path)}"

    def identity(self) -> Identity:
        user = self.api.ask("GET", "/user")  # the token's scope must have read:user
        return Identity(user["full_name"] or user["login"], user["email"])
