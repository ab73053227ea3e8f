"""Project in Label Studio, found by its title."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runner.errors import LabelStudioError, NotSetUpError
from runner.label_studio.server import Server

#: What annotators need: pictures without a box can be finished, a model's boxes are shown, pictures can be skipped.
SETTINGS = ("enable_empty_annotation", "show_collab_predictions", "show_skip_button")


@dataclass(frozen=True)
class Project:
    """An existing project.

    Attributes:
        configuration: labelling configuration, as XML.
        off: those of SETTINGS that are off.
    """

    server: Server
    id: int
    title: str
    configuration: str
    off: list[str]

    @property
    def address(self) -> str:
        """URL of its page."""
        return f"{self.server.url}/projects/{self.id}/data"

    def task_address(self, task: int) -> str:
        """URL of a task's page."""
        return f"{self.address}?task={task}"


def project_named(server: Server, title: str) -> Project | None:
    """Return the project with this title; None when there is none, LabelStudioError when there are several."""
    listed: Iterable[Any] = server.client.projects.list(title=title)
    found = [each for each in listed if each.title == title]
    if len(found) > 1:
        raise LabelStudioError(
            f"{server.url}: {len(found)} projects are called {title!r}, expected one; rename the others"
        )
    if not found:
        return None
    (its,) = found
    return Project(server, its.id, title, its.label_config or "", [name for name in SETTINGS if not getattr(its, name)])


def existing_project(server: Server, title: str) -> Project:
    """Return the project with this title; NotSetUpError when there is none."""
    if its := project_named(server, title):
        return its
    raise NotSetUpError(
        f"{server.url}: there is no project {title!r} (labels.title); `python -m runner labels setup` makes it"
    )
