import pytest

from runner.label_studio.label_next import EQUAL, POOL, Evidence, Parts, most_useful, parts_of, shortlist

COUNTS = {"airplane": 100, "helicopter": 25}
NONE = Parts(0, 0, 0, 0, 0)
ALL_BITS = 2**64 - 1


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence([], 0, None), NONE._replace(nothing_found=1)),
        (Evidence(["airplane"], 1, 0.5), NONE),  # a confidence of 0.75 where 0.25 is the threshold
        (Evidence(["airplane"], 1, 0.7), NONE),
        (Evidence(["airplane"], 1, 0.1), NONE._replace(uncertainty=0.8)),
        (Evidence(["airplane"], 0, 0.0), NONE._replace(uncertainty=1, nothing_found=1)),  # just below its threshold
        (Evidence(["airplane", "helicopter"], 2, 0.5), NONE._replace(rare_class=0.75)),  # 25 boxes beside 100
        (Evidence(["drone"], 1, 0.5), NONE._replace(rare_class=1)),  # no box at all
        (Evidence(["airplane"], 1, 0.5, shadow=0.5), NONE._replace(shadow=0.5)),
    ],
)
def test_each_part_of_the_score_has_a_cause(evidence: Evidence, expected: Parts) -> None:
    assert parts_of(evidence, COUNTS) == pytest.approx(expected)


def test_no_class_is_rare_when_nothing_is_labelled() -> None:
    assert parts_of(Evidence(["airplane"], 1, None), {}) == NONE


def test_the_score_is_the_mean_and_stays_below_a_report() -> None:
    parts = Parts(0.8, 0, 0, 0.75, 0.5)
    assert parts.score == pytest.approx(0.41)
    assert parts.task_data() == {
        **{"priority": "0.41", "uncertainty": "0.80", "nothing_found": "0.00", "shadow": "0.00"},
        **{"rare_class": "0.75", "diversity": "0.50"},
    }
    assert EQUAL.task_data()["priority"] == "0.99" < "1 reported"


def test_each_picture_is_unlike_those_before_it_when_all_else_is_equal() -> None:
    """Hashes differ in 16 of 64 bits, or in all of them; 32 bits are as far as it goes."""
    assert most_useful([], [], [], 3) == []
    hashes = [0, 0xFFFF, 0xFF, ALL_BITS]
    chosen = most_useful([NONE] * 4, hashes, [], 4)
    assert [place for place, _ in chosen] == [0, 3, 1, 2]  # the first of equals, its contrary, then halfway
    assert [parts.diversity for _, parts in chosen] == [1, 1, 0.5, 0.25]
    assert [place for place, _ in most_useful([NONE] * 4, hashes, [0, ALL_BITS], 2)] == [1, 2]


def test_what_is_unsure_comes_before_what_is_new_when_it_weighs_more() -> None:
    parts = [NONE, NONE._replace(uncertainty=0.9)]
    assert [place for place, _ in most_useful(parts, [0xFFFFFFFF, 0xF], [0], 2)] == [1, 0]  # 0.9 + 4/32 beside 1
    assert [place for place, _ in most_useful(parts, [0xFFFFFFFF, 0xF], [0], 2, Parts(0.5, 1, 1, 1, 1))] == [0, 1]
    assert [place for place, _ in most_useful(parts, [None, None], [0], 1)] == [1]


def test_the_best_are_shortlisted_in_their_order() -> None:
    pictures = [(name, NONE._replace(shadow=value)) for name, value in zip("abcd", (0.5, 0.9, 0.9, 0), strict=True)]
    assert [name for name, _ in shortlist(pictures, 1)] == ["b", "c", "a", "d"]
    assert len(shortlist(pictures * POOL, 1)) == POOL
    assert shortlist(pictures, 0) == shortlist([], 1) == []
