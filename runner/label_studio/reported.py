"""Feedback on pictures that have a task: it reaches that task, whatever its origin, annotated or not.

Label Studio's own order, that of *Label All Tasks*, is by task id, with one lever: tasks that want more than one person
(`overlap`) come first where `show_overlap_first` is on. A reported picture therefore wants one person more than have
annotated it, until somebody has annotated it after the report; a task that was annotated is open again for that time.
Label Studio's flag fflag_fix_back_lsdv_4523_show_overlap_first_order_27022023_short lets those who find all of them
taken go on with other tasks.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runner.label_studio.captures import PERSON, REPORTED, Capture
from runner.label_studio.labelling_tasks import Predictions, Task, predictions_of
from runner.label_studio.regions import LabelledBox, region
from runner.label_studio.server import ONCE, Project
from runner.release.disagreements import Disagreement

MOST_COMMENTS = 10  # of a task; older ones are dropped
MOST_SHOWN = 300  # characters of a comment above the picture, where a page of text would leave no room for it


class Reported(NamedTuple):
    """What feedback did to a task."""

    annotated: bool  # it is annotated now, with an annotator's boxes
    opened_again: bool  # it had been annotated before


def task_data(
    capture: Capture, before: Mapping[str, Any], labels: Sequence[str], now: str, *, labelled: bool = False
) -> dict[str, Any]:
    """Return what a capture adds to a task's data; `before` is the task's, empty for a new one, `now` an ISO time.

    A capture without feedback adds to an existing task that the task has it, and how a challenger disagrees; not where
    people had finished the task (`labelled`): they looked before, and either model may have been trained on it.
    Comments of several reports are kept, a line each; the newest verdict counts. A confirmed answer opens no task.
    """
    answer, feedback, other = capture.answer, capture.feedback, None if labelled else capture.disagreement
    data: dict[str, Any] = {"requests": [*requests_in(before), capture.request]}
    if other:
        names = dict.fromkeys([*challengers_in(before), other.challenger.title])
        data |= {"challengers": ", ".join(names), "disagreement": _disagreement(other)}
    if before and not feedback:
        return data | ({"note": _note({**before, **data})} if other else {})
    model, reason = answer.model.title, ", ".join(answer.reasons)
    data |= {"origin": capture.origin, "request_id": answer.request_id, "environment": answer.environment}
    data |= {"model": model, "reason": str(before.get("reason") or reason)}
    if capture.is_reported:
        data |= {"priority": REPORTED, "reported": now}
    if capture.is_corrected:
        data["boxes_by"] = capture.annotator or PERSON
    if feedback:
        unknown = [each for each in feedback.boxes or [] if each.label not in labels]
        said = [feedback.comment or ""]
        for each in unknown:
            said.append(f"{each.label} at {each.box.x1:.0f} {each.box.y1:.0f} {each.box.x2:.0f} {each.box.y2:.0f}")
        earlier = str(before.get("comment") or "").splitlines()
        comments = [*earlier, *filter(None, map(_one_line, said))]
        data["verdict"] = feedback.verdict
        data["comment"] = "\n".join(list(dict.fromkeys(comments))[-MOST_COMMENTS:])
    return data | {"note": _note({**before, **data})}


def requests_in(data: Mapping[str, Any]) -> list[str]:
    """Return the requests whose capture or feedback a task has, from its unchecked data."""
    found = data.get("requests")
    if found is None and "request_id" in data:  # an older version wrote the task
        return [str(data["request_id"])]
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def challengers_in(data: Mapping[str, Any]) -> list[str]:
    """Return the challengers that disagree about a task's picture, from its unchecked data."""
    return [each for each in str(data.get("challengers") or "").split(", ") if each]


def reported_at(data: Mapping[str, Any]) -> datetime | None:
    """Return when a task got its newest report, from its unchecked data; None: it has none, or nobody can tell."""
    try:
        found = datetime.fromisoformat(str(data.get("reported")))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def has(task: Task, capture: Capture) -> bool:
    """Whether a task has a capture of its request already, with the same feedback."""
    if "requests" not in task.data and capture.feedback:  # an older version wrote the task
        return task.data.get("verdict") == capture.feedback.verdict
    return capture.request in requests_in(task.data)


def usable_boxes(capture: Capture, labels: Sequence[str]) -> Predictions:
    """Return the boxes, without empty ones and without those of classes that the project lacks."""
    return {
        who: [(box, score) for box, score in boxes if box.label in labels and min(box.xywhn[2:]) > 0]
        for who, boxes in capture.boxes().items()
    }


def annotation(capture: Capture, labels: Sequence[str]) -> list[LabelledBox] | None:
    """Return the boxes that an annotator reported; None: somebody else did, or one of them can be no label."""
    if not capture.annotator:
        return None
    (drawn,), (usable,) = capture.boxes().values(), usable_boxes(capture, labels).values()
    return [box for box, _ in drawn] if len(usable) == len(drawn) else None


def add_to_tasks(project: Project, captures: Iterable[tuple[Task, Capture]], now: datetime) -> list[Reported]:
    """Add captures to the tasks of their pictures, earlier feedback first; return what feedback did."""
    found: dict[int, tuple[Task, list[Capture]]] = {}
    for task, capture in captures:
        found.setdefault(task.id, (task, []))[1].append(capture)
    done = []
    for task, its in found.values():
        its.sort(key=lambda each: each.feedback.time if each.feedback else "")
        done_to_it = _add(project, task, its, now)
        if any(each.feedback for each in its):
            done.append(done_to_it)
    return done


def _add(project: Project, task: Task, captures: Sequence[Capture], now: datetime) -> Reported:
    """Add captures to a task, earlier feedback first.

    A person's boxes become its only prediction; those of two models that disagree replace a model's; a model's are
    added only where it has none. Boxes of the last annotator are an annotation, made before the task says that it has
    the report: a push that was killed in between makes it again. What others reported after it opens the task again.
    """
    client, data = project.server.client, dict(task.data)
    later = captures
    for place, capture in reversed(list(enumerate(captures))):
        if (drawn := annotation(capture, project.labels)) is not None:
            size = capture.answer.width, capture.answer.height
            result = [region(box, size, number) for number, box in enumerate(drawn)]
            made = client.annotations.create(task.id, result=result, was_cancelled=False, request_options=ONCE)
            later = captures[place + 1 :]
            break
    annotated, is_open = later is not captures, any(each.is_reported for each in later)
    if annotated and is_open:
        now = max(now, made.updated_at or now)  # that annotation is no answer to it
    for capture in captures:
        data |= task_data(capture, data, project.labels, now.isoformat(), labelled=task.labelled)
    if useful := [each for each in captures if each.feedback or each.disagreement]:
        best = max(useful, key=lambda each: (each.is_corrected, each.disagreement is not None, useful.index(each)))
        there = client.predictions.list(task=task.id)
        by_a_person = bool(task.data.get("boxes_by")) or any(each.model_version == PERSON for each in there)
        if best.is_corrected or not there or (best.disagreement and not by_a_person):
            size = best.answer.width, best.answer.height
            for request in predictions_of(usable_boxes(best, project.labels), size):
                client.predictions.create(task=task.id, **request, request_options=ONCE)
            for each in there:  # of several predictions, Label Studio would show an arbitrary one
                if each.id is not None:
                    client.predictions.delete(each.id)
    wanted: dict[str, Any] = {"data": data}
    if is_open:
        before = client.annotations.list(task.id) if task.labelled or annotated else []
        wanted |= {"overlap": max(len({str(each.completed_by) for each in before}), 1) + 1, "is_labeled": False}
    client.tasks.update(str(task.id), **wanted)
    return Reported(annotated and not is_open, is_open and (task.labelled or annotated))


def order_tasks(project: Project, tasks: Iterable[Task]) -> None:
    """Bring reported pictures to the front of *Label All Tasks*, and back when they were annotated since."""
    client = project.server.client
    for task in tasks:
        if task.data.get("priority") != REPORTED:
            continue
        if task.overlap == 1 and not task.labelled:
            client.tasks.update(str(task.id), overlap=2)
        elif task.overlap > 1 and task.labelled:
            there = client.annotations.list(task.id)
            reported = reported_at(task.data) or datetime.min.replace(tzinfo=UTC)
            if any(each.updated_at and each.updated_at > reported for each in there):
                finished = any(not each.was_cancelled for each in there)
                client.tasks.update(str(task.id), overlap=1, is_labeled=finished)


def _note(data: Mapping[str, Any]) -> str:
    """Return the line above the picture; Label Studio shows no line breaks there."""
    said = [f"Reported as {data['verdict']}" if data.get("verdict") else ""]
    for line in str(data.get("comment") or "").splitlines():
        said.append(line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN - 1]}…")
    by = f" by {data['model']}" if data.get("model") else ""
    reason = data.get("reason")
    said.append(
        f"Captured because of {reason}{by}" if reason and reason != "feedback" else f"Answered{by}" if by else ""
    )
    said.append(str(data.get("disagreement") or ""))
    return " · ".join(filter(None, said))


def _one_line(text: str) -> str:
    """Return a text in one line, without control characters: Label Studio's PostgreSQL refuses a task with NUL."""
    kept = ("\n" if unicodedata.category(each) in ("Cc", "Cs") else each for each in text)
    return " ".join("".join(kept).split())


def _disagreement(found: Disagreement) -> str:
    """Return in words what each model alone found."""
    sides = ((found.model, found.only_model), (found.challenger, found.only_challenger))
    counts = ((who.title, Counter(each.label for each in boxes)) for who, boxes in sides if boxes)
    return " · ".join(f"{who} alone: {', '.join(f'{n} {label}' for label, n in of.items())}" for who, of in counts)
