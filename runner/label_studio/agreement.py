"""Agreement of annotators: boxes that two people drew of one picture, matched by overlap; `flywheel --agreement`.

An annotation that counts as ground truth (the star in Label Studio's editor, and those that `labels import` brings) is
the reference of its task, which is then a golden task. Without one, each person is compared with each other one.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from runner.label_studio.annotations import export_tasks
from runner.label_studio.regions import AGREED, LabelledBox, read_regions
from runner.label_studio.server import Project
from runner.tables import Row, Table, figure

GOLDEN, OTHERS = "golden tasks", "other people"


class ComparedAnnotations(NamedTuple):
    """Two annotations of one task, of which one is judged by the other."""

    person: str
    against: str  # GOLDEN or OTHERS
    drawn: Sequence[LabelledBox]
    reference: Sequence[LabelledBox]


class ClassAgreement(NamedTuple):
    """Boxes of one class, of one person."""

    drawn: int
    reference: int
    matched: int

    @property
    def agreement(self) -> float | None:
        """2 x matched / (drawn + reference), 0 to 1, the F1 of one against the other; None: no box."""
        boxes = self.drawn + self.reference
        return 2 * self.matched / boxes if boxes else None


def agreement(project: Project) -> Table:
    """Return a row for each person and class, by name: there is no ranking."""
    users = {user.id: str(user.email) for user in project.server.client.users.list()}
    pairs = [pair for task in export_tasks(project) for pair in pairs_of(task, project.labels, users)]
    return as_table(pairs, project.labels)


def pairs_of(task: Mapping[str, Any], classes: Collection[str], users: Mapping[int, str]) -> list[ComparedAnnotations]:
    """Return the comparisons that a task of an export allows, of each person's newest annotation; without skips."""
    newest = sorted(task["annotations"], key=lambda each: str(each["updated_at"]))
    people = {each["completed_by"]: each for each in newest if not each["was_cancelled"]}
    golden = {person: each for person, each in people.items() if each.get("ground_truth")}
    boxes = {person: read_regions(each["result"], classes, "box").boxes for person, each in people.items()}
    against = GOLDEN if golden else OTHERS
    return [
        ComparedAnnotations(users.get(person, f"user {person}"), against, boxes[person], boxes[other])
        for person in people.keys() - golden.keys()
        for other in golden or people
        if person != other
    ]


def match(drawn: Sequence[LabelledBox], reference: Sequence[LabelledBox]) -> Counter[str]:
    """Return label → number of pairs of boxes of this label that overlap by `AGREED` at least, each box in one pair."""
    overlaps = sorted(
        (
            (one.iou(other), place, partner)
            for place, one in enumerate(drawn)
            for partner, other in enumerate(reference)
            if one.label == other.label
        ),
        reverse=True,
    )
    taken: set[tuple[str, int]] = set()
    matched: Counter[str] = Counter()
    for iou, place, partner in overlaps:
        ends = {("drawn", place), ("reference", partner)}
        if iou >= AGREED and not ends & taken:
            taken |= ends
            matched[drawn[place].label] += 1
    return matched


def as_table(pairs: Sequence[ComparedAnnotations], classes: Sequence[str]) -> Table:
    """Return the agreement of each person with golden tasks and with other people, by class."""
    rows: list[Row] = [("person", "against", "tasks", "class", "drawn", "reference", "matched", "agreement")]
    for person, against in sorted({(pair.person, pair.against) for pair in pairs}):
        own = [pair for pair in pairs if (pair.person, pair.against) == (person, against)]
        matched = sum((match(pair.drawn, pair.reference) for pair in own), Counter[str]())
        for name in classes:
            drawn = sum(box.label == name for pair in own for box in pair.drawn)
            reference = sum(box.label == name for pair in own for box in pair.reference)
            counts = ClassAgreement(drawn, reference, matched[name])
            if drawn + reference:
                rows.append((person, against, str(len(own)), name, *map(str, counts), figure(counts.agreement)))
    return Table(f"Agreement of annotators: boxes of one class that overlap by {AGREED:g} at least", rows)
