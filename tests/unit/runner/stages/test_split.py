"""The split: sticky, by group, in the shares asked for; an empty part is refused with its remedy."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.config.schema import PARTS, SplitConfig
from runner.errors import DatasetError
from runner.stages.split import group_key, part_of, split

SETTINGS = SplitConfig(mode="hash", val=0.2, test=0.2, seed=0, group=None)


def settings(**changes: Any) -> SplitConfig:
    return SplitConfig.model_validate(SETTINGS.model_dump() | changes)


def entry(name: str, part: str | None = None) -> dict[str, Any]:
    return {
        "image": f"images/{name}.jpg",
        "source": f"images/{name}.jpg",
        "sha256": hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(),
        "labels": f"labels/{name}.txt",
        "part": part,
    }


def dataset(folder: Path, entries: list[dict[str, Any]], classes: str = "a\nb c\n直升机\n") -> Path:
    """A dataset as `prepare` leaves it; every second picture has a box of class 1 and one of class 2."""
    (folder / "labels").mkdir(parents=True)
    for number, each in enumerate(entries):
        (folder / each["labels"]).write_text("1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n" * (number % 2))
    (folder / "index.json").write_text(json.dumps(entries))
    (folder / "classes.txt").write_text(classes, encoding="utf-8")
    return folder


def dealt(out: Path) -> dict[str, str]:
    return {line: part for part in PARTS for line in (out / f"{part}.txt").read_text(encoding="utf-8").splitlines()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out ü"
    folder.mkdir()
    return folder


def test_every_picture_is_dealt_once_when_hashed(tmp_path: Path, out: Path) -> None:
    entries = [entry(f"größe {number}") for number in range(60)]
    table = split(dataset(tmp_path / "data", entries), SETTINGS, out)
    parts = dealt(out)
    assert sorted(parts) == sorted(each["image"] for each in entries)
    assert parts == {each["image"]: part_of(each["sha256"], SETTINGS) for each in entries}
    data = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    assert data == {part: f"{part}.txt" for part in PARTS} | {"names": {0: "a", 1: "b c", 2: "直升机"}}
    rows = {
        line.rsplit(maxsplit=3)[0].strip(): [int(cell) for cell in line.split()[-3:]] for line in table.splitlines()[1:]
    }
    assert table.splitlines()[0].split() == ["train", "val", "test"]
    assert rows["pictures"] == rows["groups"] == [list(parts.values()).count(part) for part in PARTS]
    assert rows["a"] == [0, 0, 0]
    assert sum(rows["b c"]) == sum(rows["直升机"]) == 30


def test_own_parts_are_kept_when_given(tmp_path: Path, out: Path) -> None:
    entries = [entry(f"{part}{number}", part) for part in PARTS for number in range(3)]
    split(dataset(tmp_path / "data", entries), settings(mode="given"), out)
    assert dealt(out) == {each["image"]: each["part"] for each in entries}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", "train"), entry("b")], r"images/b\.jpg: .* split\.mode"),
        ([entry("a", "train"), entry("b", "val")], r"into test: .* split\.mode"),
    ],
)
def test_refused_when_parts_shall_be_given_and_are_not(
    tmp_path: Path, out: Path, entries: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        split(dataset(tmp_path / "data", entries), settings(mode="given"), out)


@pytest.mark.parametrize(
    ("changes", "count", "remedy"),
    [
        ({}, 0, "into train and val and test: 0 pictures in 0 groups"),
        ({"val": 0.001}, 10, r"into val: 10 pictures in 10 groups.*; raise split\.val, choose .* or add"),
        ({"test": 0.001, "seed": 1}, 10, r"into test: .* split\.test 0\.001; raise split\.test, choose"),
        ({"val": 0.5, "test": 0.499}, 10, r"into train: .*; lower split\.val and split\.test, choose"),
        ({"group": "^clip"}, 40, r"40 pictures in 1 groups, .*or let split\.group"),
        ({"group": ""}, 1, "1 pictures in 1 groups"),
    ],
)
def test_refused_with_the_remedy_when_a_part_is_empty(
    tmp_path: Path, out: Path, changes: dict[str, Any], count: int, remedy: str
) -> None:
    data = dataset(tmp_path / "data", [entry(f"clip{number}") for number in range(count)])
    with pytest.raises(DatasetError, match=remedy):
        split(data, settings(**changes), out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "name", "key"),
    [
        (r"^(.+)_f\d+", "clip 1_f0043", "group:clip 1"),
        (r"^.+_f", "clip 1_f0043", "group:clip 1_f"),
        (r"^(?:(a)|(b))", "b1", "group:b"),
        (r"\d", "ab", entry("ab")["sha256"]),
        (None, "ab", entry("ab")["sha256"]),
    ],
)
def test_key_is_what_matched_when_there_is_a_pattern(pattern: str | None, name: str, key: str) -> None:
    assert group_key(entry(name), settings(group=pattern)) == key


def test_groups_stay_whole_and_pictures_in_their_part_when_others_are_added(tmp_path: Path, out: Path) -> None:
    rule, entries = settings(group=r"^\d+"), [entry(f"{clip}_f{frame}") for clip in range(60) for frame in range(2)]
    split(dataset(tmp_path / "few", entries[::2]), rule, out)
    before = dealt(out)
    split(dataset(tmp_path / "all", entries), rule, out)
    after = dealt(out)
    assert after == {image: before[image.replace("_f1", "_f0")] for image in after} and before.items() < after.items()


@given(st.integers(0, 10**6), st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_shares_are_near_what_was_asked_when_there_are_many(seed: int, val: float, test: float) -> None:
    """Five standard deviations of a binomial: one false alarm in a million draws."""
    rule, count = settings(seed=seed, val=val, test=test), 2000
    parts = [part_of(str(number), rule) for number in range(count)]
    for part, share in (("val", val), ("test", test), ("train", 1 - val - test)):
        assert abs(parts.count(part) / count - share) <= 5 * math.sqrt(share * (1 - share) / count)


@given(st.text(), st.floats(0.01, 0.4), st.floats(0.41, 0.9))
def test_test_pictures_stay_when_the_share_of_test_grows(key: str, less: float, more: float) -> None:
    if part_of(key, settings(val=0.05, test=less)) == "test":
        assert part_of(key, settings(val=0.05, test=more)) == "test"


def test_pictures_are_dealt_anew_when_the_seed_changes() -> None:
    keys = [str(number) for number in range(200)]
    assert [part_of(key, SETTINGS) for key in keys] != [part_of(key, settings(seed=1)) for key in keys]
