"""The values that a sweep tries, in Hydra's syntax: a grid of all combinations, or a space that a search draws from.

Syntax: https://hydra.cc/docs/advanced/override_grammar/extended/
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, OverrideType
from hydra.errors import HydraException

from runner.config.override import parse_overrides
from runner.errors import ConfigError

EXAMPLE = "train.lr0=0.001,0.01 presets.model=yolo11n,yolo11s"


class Interval(NamedTuple):
    """A range of numbers, both ends included, from which a search draws; `is_log`: by its logarithm."""

    low: float
    high: float
    is_int: bool
    is_log: bool


class Axis(NamedTuple):
    """A key of params.yaml and the values that are tried: `choices`, as in `dvc exp run -S`, or an interval."""

    key: str
    choices: tuple[str, ...]
    interval: Interval | None = None

    def value(self, chosen: object) -> str:
        """Return KEY=VALUE; `++` sets the key whether params.yaml names it or not."""
        return f"++{self.key}={chosen}"


def parse_axes(words: Sequence[str]) -> tuple[list[Axis], dict[str, str]]:
    """Parse KEY=VALUES, where KEY is a key of params.yaml or a parameter of the workshop.

    Returns the axes, and params of the Pipeline (gpu, gpu-timeout) that all trials share. ConfigError: another syntax.
    """
    values, params = parse_overrides(words)
    if not values:
        raise ConfigError(f"a sweep needs values to try, such as {EXAMPLE}")
    axes = [_axis(each) for each in values]
    keys = [axis.key for axis in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), ""):
        raise ConfigError(f"{twice}: given twice; put all its values behind one =")
    return axes, params


def grid(axes: Sequence[Axis]) -> list[list[str]]:
    """Return each combination as KEY=VALUE of all axes; the last axis changes fastest. ConfigError for an interval."""
    if endless := next((axis.key for axis in axes if axis.interval), ""):
        raise ConfigError(f"{endless}: an interval has no end of values; say how many to try: SEARCH=12")
    return [
        [axis.value(chosen) for axis, chosen in zip(axes, each, strict=True)]
        for each in product(*(axis.choices for axis in axes))
    ]


def corners(axes: Sequence[Axis]) -> list[list[str]]:
    """Return combinations in which each value, and both ends of each interval, occur: as few as there are values."""
    shown = [axis.interval[:2] if axis.interval else axis.choices for axis in axes]
    return [
        [axis.value(each[min(i, len(each) - 1)]) for axis, each in zip(axes, shown, strict=True)]
        for i in range(max(map(len, shown)))
    ]


def _axis(word: str) -> Axis:
    expected = f"expected KEY=VALUE,VALUE in Hydra's syntax, such as {EXAMPLE}"
    if "${" in word.replace("\\", ""):
        raise ConfigError(f"{word}: a sweep's values are written out, without ${{…}}; {expected}")
    try:
        found: Override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(f"{word}: {' '.join(str(error).split())[:200]}; {expected}") from error
    values = found.value()
    if found.type is OverrideType.DEL or found.package or isinstance(values, Glob):
        raise ConfigError(f"{word}: a key cannot be removed, moved or matched by a pattern here; {expected}")
    key = found.key_or_group
    if isinstance(values, IntervalSweep):
        low, high, is_int = values.start, values.end, isinstance(values.start, int)
        is_log = "log" in values.tags
        if low is None or high is None or low >= high or (is_log and low <= 0):
            above = " above 0" if is_log else ""
            raise ConfigError(f"{word}: expected interval(LOW,HIGH) with LOW{above} below HIGH")
        return Axis(key, (), Interval(low, high, is_int, is_log))
    if not found.is_sweep_override():
        return Axis(key, (str(found.get_value_element_as_str()),))
    choices = tuple(dict.fromkeys(map(str, found.sweep_string_iterator())))
    if not choices:
        raise ConfigError(f"{word}: no values; {expected}")
    return Axis(key, choices)
