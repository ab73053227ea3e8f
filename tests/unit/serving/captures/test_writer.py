import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.captures.writer import CaptureWriter, RateLimits
from serving.decoding.pool import Decoding
from serving.inference.prediction import Prediction, RecentPredictions
from serving.monitoring import Metrics
from serving.responses import Result, Timings
from serving.settings import Settings
from serving.storage.detections import Box, Detection, ModelName
from tests.support.pictures import encoded

MODEL = ModelName(name="flying", version="3", sha256="a" * 64)
TIMINGS = Timings(waiting=0, decode=0, inference=0, suppression=0, total=0)


def picture(seed: int, kind: str = "JPEG", **options: Any) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), np.uint8)
    return encoded(Image.fromarray(values).resize((64, 48), Image.Resampling.BICUBIC), kind, **options)


def prediction(number: int, data: bytes | None = None, model: ModelName = MODEL) -> Prediction:
    box = Box(x1=1, y1=2, x2=3, y2=4)
    shown, almost = (Detection(label="a", class_id=0, confidence=confidence, box=box) for confidence in (0.9, 0.2))
    result = Result(width=64, height=48, detections=[shown], counts={"a": 1}, timings_ms=TIMINGS)
    return Prediction(f"{number:032x}", data or picture(number), model, result, [almost], {"a": 0.25})


def captured(folder: Path, predictions: list[Prediction], seconds: float = 5, **others: Any) -> tuple[list[Path], str]:
    """Return the files that were written by the end, for which `seconds` are left, and the metrics."""
    metrics, settings = Metrics(), Settings(capture_uri=str(folder), **others)
    decoding = Decoding(settings, metrics)
    decoding.start()
    writer = CaptureWriter(settings, metrics, decoding)
    writer.start()
    start = time.monotonic()
    for each in predictions:
        writer.offer(each, ["nothing_found"])
    assert time.monotonic() - start < 1  # the answer does not wait
    writer.stop(seconds)
    decoding.stop()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "memory" not in path.parts)
    return files, metrics.text().decode()


def test_picture_and_text_when_kept(tmp_path: Path) -> None:
    one = prediction(1)
    files, metrics = captured(tmp_path, [one], environment="dev")
    folder = tmp_path / "captures" / "dev" / "flying" / "3" / f"{one.time:%Y-%m-%d}"
    assert files == [folder / f"{one.request_id}.jpg", folder / f"{one.request_id}.json"]
    assert files[0].read_bytes() == one.data  # the very bytes: boxes are in their pixels
    content = json.loads(files[1].read_text())
    assert [each["confidence"] for each in content["detections"]] == [0.9]
    assert [each["confidence"] for each in content["almost"]] == [0.2]
    assert (content["width"], content["height"], content["thresholds"]) == (64, 48, {"a": 0.25})
    assert (content["environment"], content["reasons"]) == ("dev", ["nothing_found"])
    assert content["model"]["sha256"] == "a" * 64
    assert 'flywheel_captures_total{strategy="nothing_found"} 1.0' in metrics


@pytest.mark.parametrize(
    ("name", "version", "folder"), [("../..", "1/2", "__../1_2"), ("a b\n", None, "a_b_/" + "a" * 12)]
)
def test_safe_path_when_the_name_is_not(name: str, version: str | None, folder: str, tmp_path: Path) -> None:
    model = ModelName(name=name, version=version, sha256="a" * 64)
    files, _ = captured(tmp_path / "store", [prediction(1, model=model)])
    expected = tmp_path / "store" / "captures" / "local" / folder
    assert files and all(file.parents[1] == expected for file in files)


def test_upright_jpeg_when_another_kind_came(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    sent = [prediction(1, picture(1, "PNG")), prediction(2, picture(2, "JPEG", exif=turned))]
    files, _ = captured(tmp_path, sent)
    images = [Image.open(io.BytesIO(path.read_bytes())) for path in files[::2]]
    assert [(image.format, image.getexif().get(0x0112, 1)) for image in images] == [("JPEG", 1)] * 2
    assert [image.size for image in images] == [(64, 48), (48, 64)]


@pytest.mark.parametrize(
    ("offered", "settings", "written", "reason"),
    [
        ([prediction(1), prediction(2, picture(1, quality=60)), prediction(3)], {}, 2, "similar"),
        ([prediction(number) for number in range(3)], {"capture_per_minute": 2}, 2, "per_minute"),
        ([prediction(number) for number in range(3)], {"capture_per_hour": 2}, 2, "per_hour"),
        ([prediction(number) for number in range(3)], {"capture_per_day": 2}, 2, "per_day"),
        ([prediction(number) for number in range(3)], {"capture_queue_bytes": 10}, 0, "queue_full"),
        ([prediction(number, b"no picture") for number in range(3)], {}, 0, "error"),
    ],
)
def test_dropped_and_counted(
    offered: list[Prediction], settings: dict[str, int], written: int, reason: str, tmp_path: Path
) -> None:
    files, metrics = captured(tmp_path, offered, **settings)
    assert len(files) == 2 * written
    assert f'flywheel_captures_dropped_total{{reason="{reason}"}} {float(len(offered) - written)}' in metrics


def test_given_up_and_counted_when_the_store_stays_away(tmp_path: Path) -> None:
    (tmp_path / "captures").write_text("a file where a folder should be")
    start = time.monotonic()
    _, metrics = captured(tmp_path, [prediction(1), prediction(2)], seconds=0.2)
    assert time.monotonic() - start < 5
    assert 'flywheel_captures_dropped_total{reason="shutdown"} 2.0' in metrics


def test_oldest_forgotten_when_the_memory_is_full() -> None:
    recent, data = RecentPredictions(3 * prediction(1).size), picture(1)
    for number in range(20):
        recent.add(prediction(number, data))
    assert [number for number in range(20) if recent.get(f"{number:032x}")] == [17, 18, 19]


def test_period_named_when_its_limit_is_reached() -> None:
    clock = [0.0]
    limits = RateLimits(2, 3, 4, clock=lambda: 1_000 * 86_400 + clock[0])
    expected = [(0, None), (0, None), (59, "minute"), (60, None), (61, "hour"), (3_600, None), (7_200, "day")]
    for clock[0], period in [*expected, (86_400, None)]:
        assert limits.reached() == period


def test_seconds_to_wait_named_when_a_limit_is_reached() -> None:
    limits = RateLimits(1, 2, 3, clock=lambda: 130.0)
    assert limits.full() is None
    limits.reached()
    assert limits.full() == ("minute", 51)
