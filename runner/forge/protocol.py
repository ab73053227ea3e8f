"""What Flywheel asks of a forge. One module for each implements it; forges.py lists them."""

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple, Protocol

from runner.forge.address import Address
from runner.forge.rest import Api

State = Literal["error", "failure", "pending", "success"]  # of a commit, in GitHub's words
NO_COMMIT = "0" * 40  # an id that no commit has


class Identity(NamedTuple):
    """Author of a commit."""

    name: str
    email: str


class Webhook(NamedTuple):
    """A webhook of the repository: where it sends to, and what is wrong with it as a sender of pushes."""

    url: str
    faults: list[str]


class Forge(Protocol):
    """A repository on a forge. Methods raise ApiError when the forge refuses or does not answer."""

    NAMES: ClassVar[tuple[str, ...]]  # values of FORGE in cluster.env, and first labels of such a server's name
    HOSTS: ClassVar[tuple[str, ...]]  # public servers
    API_PATH: ClassVar[str]  # of the API, below the site; an address of an API that ends so is of this forge

    address: Address
    api: Api

    def __init__(self, address: Address, api: Api) -> None: ...

    @classmethod
    def api_of(cls, site: str) -> str:
        """Return the API's address of a server."""

    def set_status(self, commit: str, state: State, text: str, context: str) -> None:
        """Set a commit's status named `context`; a longer text is cut."""

    def may_set_status(self) -> bool | None:
        """Whether the token may set statuses, tried on a commit that does not exist; None: the forge does not tell."""

    def find_pull(self, branch: str, base: str) -> str:
        """Return the path in the API of the open pull request from a branch of this repository; empty for none."""

    def declined_pull(self, branch: str, base: str, commit: str) -> str:
        """Return the page of a pull request that was closed at this commit without a merge; empty for none."""

    def open_pull(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a pull request; return its page."""

    def update_pull(self, pull: str, title: str, body: str) -> str:
        """Set title and text of the pull request that `find_pull` found; return its page."""

    def pull_link(self, branch: str, base: str) -> str:
        """Return the page on which a person opens the pull request."""

    def file_link(self, commit: str, path: str) -> str:
        """Return the address of a file's bytes at a commit, for a picture in a text; who reads it must be logged in."""

    def webhooks(self) -> Iterator[Webhook]:
        """Yield the repository's webhooks; the token must be an administrator's."""

    def identity(self) -> Identity:
        """Return who the token is."""
