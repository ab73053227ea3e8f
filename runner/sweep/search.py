"""The next trial of a search, by Optuna's ask and tell.

Nothing is kept between two calls: the trials that ended are told anew each time, so that any process can go on.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runner.sweep.space import Axis, grid
from runner.sweep.trials import Sweep, Trial, told

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def next_values(sweep: Sweep, trials: Sequence[Trial], numbers: Sequence[int]) -> dict[int, list[str]]:
    """Return the values of the trials of these numbers; `trials` are those that ended, from which a search learns."""
    if sweep.search:
        return {number: suggest(sweep.axes, told(trials), number) for number in numbers}
    combinations = grid(sweep.axes)
    return {number: combinations[number] for number in numbers}


def suggest(axes: Sequence[Axis], told: Sequence[tuple[Sequence[str], float]], number: int) -> list[str]:
    """Return the values of trial `number`, KEY=VALUE of each axis, by the tree-structured Parzen estimator.

    `told` has the values and the score, higher is better, of trials that ended; while there are fewer than ten, values
    are drawn at random. The same arguments give the same values; trials that run at the same time differ by `number`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=number))
    space = {axis.key: _distribution(axis) for axis in axes}
    for values, score in told:
        known = dict(each.removeprefix("++").split("=", 1) for each in values)
        params = {axis.key: _param(axis, known) for axis in axes}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=score))
    chosen = study.ask(space).params
    return [axis.value(chosen[axis.key]) for axis in axes]


def _distribution(axis: Axis) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not axis.interval:
        return CategoricalDistribution(axis.choices)
    low, high, is_int, is_log = axis.interval
    return IntDistribution(int(low), int(high), log=is_log) if is_int else FloatDistribution(low, high, log=is_log)


def _param(axis: Axis, known: Mapping[str, str]) -> str | float | int:
    text = known[axis.key]
    if not axis.interval:
        return text
    return int(text) if axis.interval.is_int else float(text)
