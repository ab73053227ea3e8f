"""Tracks of things across the frames of a video, after ByteTrack (Zhang et al., ECCV 2022, https://arxiv.org/abs/2110.06864).

As there, confident detections are matched to tracks first, then the others to what is left, so that a thing that is
half hidden keeps its number. Simpler than there: a track moves on at its last speed, without a Kalman filter, and pairs
are taken by falling IoU, without an assignment solver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.storage.detections import Detection, Tracked

Labelled = tuple[str, NDArray[np.float64]]  # class, and box: (4,), pixels, x1 y1 x2 y2
LOWEST = 0.1  # confidence of a detection that may still continue a track
_LEAST_IOU, _LEAST_IOU_UNSURE = 0.2, 0.5  # of a track's expected box with a confident detection, with another one
_MOST_MISSED = 30  # analysed frames that a track outlives without a detection
_SMOOTHING = 0.5  # share of the newest movement in a track's speed


@dataclass
class _Track:
    number: int
    label: str
    box: NDArray[np.float64]  # (4,), pixels, x1 y1 x2 y2: where it is expected in the frame at hand
    speed: NDArray[np.float64]  # (4,), pixels a frame
    seen: NDArray[np.float64]  # (4,), where it was seen last
    missed: int = 0  # frames since then


class Tracker:
    """Tracks of one video; not thread-safe."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, sure: Sequence[Detection], unsure: Sequence[Detection]) -> list[Tracked]:
        """Take the detections of the next frame; return the sure ones, and those unsure ones that continue a track."""
        for track in self._tracks:
            track.box = track.box + track.speed
            track.missed += 1
        found: list[Tracked] = []
        left = list(self._tracks)
        for detections, least in ((sure, _LEAST_IOU), (unsure, _LEAST_IOU_UNSURE)):
            things = [labelled(each) for each in detections]
            matched = pairs(things, [(track.label, track.box) for track in left], least)
            matches = {place: left[number] for place, number in matched}
            for place, (detection, (_, box)) in enumerate(zip(detections, things, strict=True)):
                if match := matches.get(place):
                    _move(match, box)
                elif detections is sure:
                    self._count += 1
                    match = _Track(self._count, detection.label, box, np.zeros(4), box)
                    self._tracks.append(match)
                if match:
                    found.append(Tracked(**dict(detection), track=match.number))
            left = [track for track in left if track not in matches.values()]
        self._tracks = [track for track in self._tracks if track.missed <= _MOST_MISSED]
        return found


def _move(track: _Track, box: NDArray[np.float64]) -> None:
    speed = (box - track.seen) / track.missed
    track.speed = speed if not track.speed.any() else _SMOOTHING * speed + (1 - _SMOOTHING) * track.speed
    track.box = track.seen = box
    track.missed = 0


def labelled(detection: Detection) -> Labelled:
    """Return what `pairs` compares of a detection."""
    box = detection.box
    return detection.label, np.array([box.x1, box.y1, box.x2, box.y2], np.float64)


def pairs(ones: Sequence[Labelled], others: Sequence[Labelled], least: float) -> list[tuple[int, int]]:
    """Return the places of the same thing in both: boxes of a class, those that overlap most first, down to an IoU."""
    if not ones or not others:
        return []
    overlaps = _iou(np.array([box for _, box in ones]), np.array([box for _, box in others]))
    same = np.array([[label == other for other, _ in others] for label, _ in ones])
    overlaps = np.where(same, overlaps, 0.0)
    found: dict[int, int] = {}
    taken: set[int] = set()
    for pair in np.argsort(-overlaps, axis=None, kind="stable"):
        one, other = divmod(int(pair), len(others))
        if overlaps[one, other] < least:
            break
        if one not in found and other not in taken:
            found[one] = other
            taken.add(other)
    return list(found.items())


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union, (N, M), of boxes (N, 4) and (M, 4), x1 y1 x2 y2."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(each[:, 2:] - each[:, :2], 0), axis=1) for each in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float64).tiny))
