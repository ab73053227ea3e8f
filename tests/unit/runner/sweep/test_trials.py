from typing import Any

from runner.sweep.trials import Sweep, Trial, ValFigures, best, summary_of, told

SWEEP = Sweep(words=["train.lr0=0.1,0.2", "seed=1,2"], revision="1d2e3f405162" + "0" * 28)


def trial(number: int, map50: float | None, *, state: str = "done", low: float = 0.0) -> Trial:
    figures = ValFigures(map50=map50, map50_low=low, map50_high=1, map50_95=0.25)
    values = [f"++train.lr0=0.{1 + number // 2}", f"++seed={1 + number % 2}"]
    return Trial(number=number, values=values, state=state, figures=figures, seconds=90, gpu_minutes=1.25)


def test_nothing_is_chosen_when_no_trial_was_measured() -> None:
    trials = [trial(0, None), trial(1, 0.9, state="cancelled")]
    assert (best([]), best(trials), told(trials)) == (None, None, [])
    assert "No trial was measured." in summary_of(SWEEP, trials)


def test_the_best_comes_first_and_is_doubted_when_others_are_within_its_interval() -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.8, low=0.7),
        trial(2, 0.75),
        Trial(number=3, values=["a=", "b="], state="failed"),
    ]
    found = best(trials)
    assert found is trials[1]
    assert [score for _, score in told(trials)] == [0.5, 0.8, 0.75]
    title, head, *rows = summary_of(SWEEP, trials).splitlines()
    assert title.startswith(f"{SWEEP.name}: 4 of 4 trials of 1d2e3f405162")
    assert head.split()[:3] == ["trial", "train.lr0", "seed"]
    assert [row.split()[0] for row in rows[:4]] == ["1", "2", "0", "3"]
    assert "0.800 (95 %: 0.70-1.00)" in rows[0] and rows[0].split()[-3:] == ["1.5", "1.2", "done"]
    assert "of 3 measured trials: trial 1, train.lr0=0.1 seed=2; 1 of the 2 others are within" in rows[-1]
    assert "others are within" not in summary_of(SWEEP, trials[:2])


def test_equal_sweeps_have_one_name_and_others_another() -> None:
    changes: list[dict[str, Any]] = [{}, {"search": 3}, {"revision": "0"}, {"words": []}]
    names = {SWEEP.model_copy(update=change).name for change in changes}
    assert SWEEP.name in names and len(names) == 4
    assert Sweep.model_validate_json(SWEEP.model_dump_json()).name == SWEEP.name
    assert SWEEP.trial_name(7) == f"{SWEEP.name}-007"
