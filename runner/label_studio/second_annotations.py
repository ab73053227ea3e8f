"""A share of the pictures is annotated by two people, to see how well they agree: `labels.double_share`.

The share is chosen by the digests of the pictures, so every run chooses the same. Once one person has annotated a task
of the share, Label Studio deals it out to a second one, who does not see what the first one drew: it wants one person
more than have annotated it (its `overlap`, see `reported.py`). As Label Studio deals out all such tasks by their age,
nobody is asked for a second annotation while a reported picture waits. What the task's data say:

    second      wanted: a second person is asked
    agreement   0.00 to 1.00 of what two people or more drew, as `agreement.py` has it; 1.00 too where all drew nothing
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from runner.label_studio.agreement import ClassAgreement, match, pairs_of
from runner.label_studio.annotations import read_tasks
from runner.label_studio.captures import REPORTED
from runner.label_studio.labelling_tasks import Task, sha256_in
from runner.label_studio.server import Project

MOST_OPEN = 20  # tasks for which a second person is asked at a time: they come before all that nobody has annotated
WANTED = "wanted"


def ask_second_people(project: Project, tasks: Sequence[Task], share: float) -> int:
    """Ask for second annotations of a share of the tasks, 0 to 1, and note agreements; return how many are awaited."""
    wanted = tasks_to_open(tasks, share)
    several = [task.id for task in tasks if task.annotations > 1]
    found = {task["id"]: agreement_of(task, project.labels) for task in read_tasks(project, several)[0]}
    for task in tasks:
        asked = task.data.get("second") == WANTED
        data = {key: value for key, value in task.data.items() if key != "second"}
        data |= {"second": WANTED} if task.id in wanted else {}
        if (agreement := found.get(task.id)) is not None:
            data["agreement"] = f"{agreement:.2f}"
        state: dict[str, Any] = {}
        if task.id in wanted and not asked:
            state = {"overlap": 2, "is_labeled": False}
        elif asked and task.id not in wanted and task.annotations < 2 and "reported" not in task.data:
            state = {"overlap": 1, "is_labeled": task.finished}
        if state or data != task.data:
            project.server.client.tasks.update(str(task.id), data=data, **state)
    return len(wanted)


def tasks_to_open(tasks: Sequence[Task], share: float) -> set[int]:
    """Return the tasks that a second person should annotate now, the oldest first.

    Those with the boxes of a dataset, and reported ones, are in no share.
    """
    if any(task.data.get("priority") == REPORTED and not task.labelled for task in tasks):
        return set()
    waiting = [
        task.id
        for task in tasks
        if task.finished
        and task.annotations == 1
        and task.data.get("origin") != "dataset"
        and "reported" not in task.data
        and is_in_share(sha256_in(task.data), share)
    ]
    return set(sorted(waiting)[:MOST_OPEN])


def is_in_share(sha256: str, share: float) -> bool:
    """Whether a picture is in a share, 0 to 1, of all pictures; one without a digest is not."""
    return bool(sha256) and int(sha256[:8], 16) < share * 2**32


def agreement_of(task: Mapping[str, Any], classes: Collection[str]) -> float | None:
    """Return the agreement of all people who annotated a task, over all classes, 0 to 1; None: there is only one."""
    pairs = pairs_of(task, classes, {})
    if not pairs:
        return None
    drawn, reference = sum(len(pair.drawn) for pair in pairs), sum(len(pair.reference) for pair in pairs)
    matched = sum(match(pair.drawn, pair.reference).total() for pair in pairs)
    agreement = ClassAgreement(drawn, reference, matched).agreement
    return 1.0 if agreement is None else agreement
