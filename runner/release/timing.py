"""Times of several models for the same pictures, measured in turn."""

from collections.abc import Callable, Sequence

from runner.stages.evaluate.examples import Example
from serving.vision.detector import Detector, Options

TIMED = 40  # pictures that each model is timed on


def milliseconds(
    detectors: Sequence[Detector], test: Sequence[Example], clock: Callable[[], float]
) -> list[list[float]]:
    """Return each model's times for pictures, by a clock of seconds, decoding and suppression included.

    The models take turns and alternate who begins, so other load on the machine affects all alike.
    """
    options = Options(max_pixels=10**10)
    pictures = [example.source.read_bytes() for example in test[:TIMED]]
    times: list[list[float]] = [[] for _ in detectors]
    for turn in range(-1, TIMED):  # the first turn is warm-up
        for number in range(len(detectors)) if turn % 2 else reversed(range(len(detectors))):
            start = clock()
            detectors[number].detect(pictures[turn % len(pictures)], options)
            times[number].append((clock() - start) * 1e3)
    return [each[1:] for each in times]
