"""The split: own parts, sticky, by group, in the shares asked for; an empty part is refused with its remedy."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.config.schema import PARTS, SplitConfig
from runner.dataset.entries import write_entries
from runner.errors import DatasetError
from runner.stages.split import group_key, part_of, recorded_parts, split

SETTINGS = SplitConfig(mode="auto", val=0.2, test=0.2, seed=0, group=None, near="keep")


def settings(**changes: Any) -> SplitConfig:
    return SplitConfig.model_validate(SETTINGS.model_dump() | changes)


def look(number: int, *, flipped: int = 0) -> str:
    """The look of a picture unlike that of any other number, with this many bits of its hash flipped."""
    digest = hashlib.sha256(str(number).encode()).digest()
    hashed = int.from_bytes(digest[:8]) ^ ((1 << flipped) - 1) << 20
    return hashed.to_bytes(8).hex() + digest[8:24].hex()


def entry(name: str, part: str | None = None, look: str | None = None) -> dict[str, Any]:
    return {
        "image": f"images/{name}.jpg",
        "source": f"images/{name}.jpg",
        "sha256": hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(),
        "part": part,
        "look": look,
    }


def dataset(folder: Path, entries: list[dict[str, Any]], classes: str = "a\nb c\n直升机\n") -> Path:
    """A dataset as `prepare` leaves it; every second picture has a box of class 1 and one of class 2."""
    folder.mkdir()
    boxes = "1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n"
    write_entries(folder, (each | {"labels": boxes * (number % 2)} for number, each in enumerate(entries)))
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
    rows = {line.rsplit(maxsplit=3)[0].strip(): line.split()[-3:] for line in table.splitlines()[1:6]}
    assert table.splitlines()[0].split() == ["train", "val", "test"]
    assert rows["pictures"] == rows["groups"] == [str(list(parts.values()).count(part)) for part in PARTS]
    assert rows["a"] == ["0", "0", "0"]
    assert sum(map(int, rows["b c"])) == sum(map(int, rows["直升机"])) == 30
    assert table.splitlines()[6:] == ["a: no box in train and val and test"]


@pytest.mark.parametrize("mode", ["auto", "given"])
def test_own_parts_are_kept_when_there_are_any(tmp_path: Path, out: Path, mode: str) -> None:
    entries = [entry(f"{part}{number}", part) for part in PARTS for number in range(3)]
    split(dataset(tmp_path / "data", entries), settings(mode=mode), out)
    assert dealt(out) == {each["image"]: each["part"] for each in entries}


def test_own_parts_are_left_when_all_is_dealt_by_hash(tmp_path: Path, out: Path) -> None:
    entries = [entry(str(number), "train") for number in range(60)]
    split(dataset(tmp_path / "data", entries), settings(mode="hash"), out)
    assert dealt(out) == {each["image"]: part_of(each["sha256"], SETTINGS) for each in entries}


@pytest.mark.parametrize("own", [("train", "val"), ("train", "test"), ("train",)])
def test_missing_parts_are_cut_from_train_and_stay_when_pictures_are_added(
    tmp_path: Path, out: Path, own: tuple[str, ...]
) -> None:
    entries = [entry(f"{part}{number}", part) for number in range(40) for part in own]
    split(dataset(tmp_path / "few", entries[: len(entries) // 2]), SETTINGS, out)
    before = dealt(out)
    split(dataset(tmp_path / "all", entries), SETTINGS, out)
    after = dealt(out)
    assert before.items() < after.items() and set(after.values()) == set(PARTS)
    for each in entries:
        by_hash = part_of(each["sha256"], SETTINGS)
        cut = each["part"] == "train" and by_hash not in own
        assert after[each["image"]] == (by_hash if cut else each["part"])


def test_a_picture_without_a_part_is_dealt_when_others_have_one(tmp_path: Path, out: Path) -> None:
    entries = [entry(f"{part}_{number}", part) for part in PARTS for number in range(3)]
    free = [entry(f"new_{number}") for number in range(40)] + [entry("test_new")]
    data = dataset(tmp_path / "data", entries + free)
    split(data, settings(group="^[a-z]+_[0-9]|^test"), out)
    parts = dealt(out)
    assert parts["images/test_new.jpg"] in PARTS
    assert len({parts[each["image"]] for each in free}) == 3
    with pytest.raises(DatasetError, match=r"images/new_0\.jpg: .* split\.mode"):
        split(data, settings(mode="given"), out)


def test_a_part_is_recorded_as_the_split_would_deal_when_a_picture_is_new() -> None:
    rule = settings(group="^(.*)_f")
    old = [entry("clip1_f1", "train"), entry("clip2_f1", "val"), entry("clip3_f1", "train"), entry("clip3_f2", "val")]
    new = [entry(f"clip{clip}_f9") for clip in (1, 2, 3)]
    assert recorded_parts(old + new, rule)[4:] == ["train", "val", "val"]
    many = [entry(str(number)) for number in range(40)]
    expected = [part_of(each["sha256"], rule) for each in many]
    # No test yet: what it will hold is recorded as train, from which the split cuts it.
    assert recorded_parts(old + many, rule)[4:] == ["train" if part == "test" else part for part in expected]


def test_augmented_copies_stay_together_when_roboflow_made_them(tmp_path: Path, out: Path) -> None:
    def copies(part: str | None) -> list[dict[str, Any]]:
        hashes = [hashlib.md5(str(number).encode()).hexdigest() for number in range(3)]
        return [entry(f"frame{number}_jpg.rf.{each}", part) for number in range(30) for each in hashes]

    for entries in (copies(None), copies("train")):
        split(dataset(tmp_path / str(entries[0]["part"]), entries), SETTINGS, out)
        parts = dealt(out)
        assert set(parts.values()) == set(PARTS) and len(parts) == 90
        assert len({(image.partition(".rf.")[0], part) for image, part in parts.items()}) == 30


def near(part: str | None, other: str | None) -> list[dict[str, Any]]:
    """40 pictures and a near-duplicate of each."""
    return [
        entry(f"{number}{kind}", own, look(number, flipped=bits))
        for number in range(40)
        for kind, own, bits in (("a", part, 0), ("b", other, 4))
    ]


def test_near_duplicates_stay_together_when_dealt_by_hash(tmp_path: Path, out: Path) -> None:
    data = dataset(tmp_path / "data", near(None, None))
    split(data, SETTINGS, out)
    parts = dealt(out)
    assert set(parts.values()) == set(PARTS)
    assert all(parts[f"images/{number}a.jpg"] == parts[f"images/{number}b.jpg"] for number in range(40))
    with pytest.raises(DatasetError, match=r"images/\d+[ab]\.jpg \(train\): .*images/\d+[ab]\.jpg \((val|test)\)"):
        split(data, settings(near="refuse"), out)
    split(data, settings(near="ignore"), out)
    assert dealt(out) == {each["image"]: part_of(each["sha256"], SETTINGS) for each in near(None, None)}


def test_near_duplicates_are_left_out_of_train_when_the_dataset_gives_them_to_test(tmp_path: Path, out: Path) -> None:
    own = [entry(f"{part}{number}", part, look(100 + number)) for number, part in enumerate(PARTS)]
    data = dataset(tmp_path / "data", near("train", "test") + near("val", "train")[:2] + own)
    data_again = dataset(tmp_path / "again", near("train", "test") + own)
    said = split(data_again, SETTINGS, out)
    parts = dealt(out)
    assert [image for image, part in parts.items() if part == "train"] == ["images/train0.jpg"]
    assert "left out" in said and "images/0a.jpg (train)" in said and "and 30 more" in said
    with pytest.raises(DatasetError, match=r"images/0a\.jpg \(train\): .*images/0b\.jpg \(test\)"):
        split(data, settings(near="refuse"), out)
    split(data_again, settings(near="ignore"), out)
    assert len(dealt(out)) == 83


def test_augmented_copies_leave_train_together_when_one_is_near_a_picture_of_test(tmp_path: Path, out: Path) -> None:
    copies = [f"frame_jpg.rf.{hashlib.md5(str(number).encode()).hexdigest()}" for number in range(3)]
    shown = [entry(copies[0], "train", look(0)), entry(copies[1], "train", look(1)), entry(copies[2], "val", look(2))]
    own = [entry(f"{part}{number}", part, look(100 + number)) for number, part in enumerate(PARTS)]
    split(dataset(tmp_path / "data", [*shown, entry("twin", "test", look(0, flipped=3)), *own]), SETTINGS, out)
    assert dealt(out).keys() == {"images/twin.jpg", *(each["image"] for each in own)}


def test_the_way_out_is_named_when_all_pictures_are_near_duplicates(tmp_path: Path, out: Path) -> None:
    entries = [entry(str(number), None, look(1)) for number in range(40)]
    with pytest.raises(DatasetError, match=r"40 pictures in 1 groups .*; split\.near: ignore"):
        split(dataset(tmp_path / "data", entries), SETTINGS, out)


def test_pictures_are_compared_by_more_than_their_hash_when_near_duplicates_are_looked_for(
    tmp_path: Path, out: Path
) -> None:
    """Flat pictures, all of hash 0, are no near-duplicates; nor is one with the same hash and other brightness."""
    flat = [entry(f"flat{number}", None, f"{0:016x}{number:02x}" + f"{number:02x}" * 15) for number in range(30)]
    split(dataset(tmp_path / "data", flat), SETTINGS, out)
    assert dealt(out) == {each["image"]: part_of(each["sha256"], SETTINGS) for each in flat}


@pytest.mark.parametrize(
    ("changes", "count", "remedy"),
    [
        ({}, 0, "into train and val and test: 0 pictures in 0 groups"),
        ({"val": 0.001}, 10, r"into val: 10 pictures in 10 groups .*; raise split\.val, choose .* or add"),
        ({"test": 0.001, "seed": 1}, 10, r"into test: .* split\.test 0\.001; raise split\.test, choose"),
        ({"val": 0.5, "test": 0.499}, 10, r"into train: .*; lower split\.val and split\.test, choose"),
        ({"group": ""}, 1, "1 pictures in 1 groups .*or add"),
        ({"group": "^clip"}, 40, r"split\.group '\^clip' puts into one group all 40 pictures, such as clip0\.jpg"),
        ({"group": "^(.*)_f"}, 40, r"split\.group '\^\(\.\*\)_f' matches none of 40 pictures, such as clip0\.jpg"),
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
        (None, "a.b_jpg.rf.0123456789abcdef0123456789abcdef", "augmented:a.b_jpg"),
        ("^a", "a.b_jpg.rf.0123456789abcdef0123456789abcdef", "group:a"),
        (None, "survey.rf.band", entry("survey.rf.band")["sha256"]),
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
