"""Captures: what is kept, what is not, and that nothing waits for it."""

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.capture import Capture, Capturer, Limits, Recent
from serving.monitoring import Metrics
from serving.settings import Settings
from serving.storage import objects as storage
from serving.storage.detections import Box, Detection, ModelName
from serving.storage.objects import StorageError

MODEL = ModelName(name="flying", version="3", sha256="a" * 64)
BOX = Box(x1=1, y1=2, x2=3, y2=4)


def picture(seed: int, kind: str = "JPEG", **options: Any) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).resize((64, 48), Image.Resampling.BICUBIC).save(out, kind, **options)
    return out.getvalue()


def capture(number: int, data: bytes | None = None) -> Capture:
    found = [Detection(label="a", class_id=0, confidence=confidence, box=BOX) for confidence in (0.9, 0.2)]
    return Capture(f"{number:032x}", data or picture(number), MODEL, 64, 48, found, 1, {"a": 0.25})


def keeping(tmp_path: Path, captures: list[Capture], **others: Any) -> tuple[list[Path], str]:
    """The files that were written, and the metrics."""
    metrics = Metrics()
    capturer = Capturer(Settings(capture_uri=str(tmp_path), **others), metrics)
    capturer.start()
    for each in captures:
        capturer.offer(each, ["nothing_found"])
    capturer.stop()
    return sorted(path for path in tmp_path.rglob("*") if path.is_file()), metrics.text().decode()


def test_off_when_nowhere_to_keep() -> None:
    capturer = Capturer(Settings(), Metrics())
    assert not capturer.on
    capturer.start()
    capturer.stop()


def test_picture_and_text_when_kept(tmp_path: Path) -> None:
    one = capture(1)
    files, metrics = keeping(tmp_path, [one], environment="dev")
    folder = tmp_path / "captures" / "dev" / "flying" / "3" / f"{one.time:%Y-%m-%d}"
    assert files == [folder / f"{one.request_id}.jpg", folder / f"{one.request_id}.json"]
    assert files[0].read_bytes() == one.data  # the very bytes: boxes are in their pixels
    content = json.loads(files[1].read_text())
    assert [each["confidence"] for each in content["detections"]] == [0.9]
    assert [each["confidence"] for each in content["almost"]] == [0.2]
    assert content["model"]["sha256"] == "a" * 64
    assert 'flywheel_captures_total{strategy="nothing_found"} 1.0' in metrics


def test_upright_jpeg_when_another_kind_came(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    sent = [capture(1, picture(1, "PNG")), capture(2, picture(2, "JPEG", exif=turned))]
    files, _ = keeping(tmp_path, sent)
    sizes = []
    for path in files[::2]:
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert (image.format, image.getexif().get(0x0112, 1)) == ("JPEG", 1)
        sizes.append(image.size)
    assert sizes == [(64, 48), (48, 64)]


def test_dropped_and_counted_when_alike(tmp_path: Path) -> None:
    files, metrics = keeping(tmp_path, [capture(1), capture(2, picture(1, quality=60)), capture(3)])
    assert len(files) == 4
    assert 'flywheel_captures_dropped_total{reason="similar"} 1.0' in metrics


def test_dropped_and_counted_when_too_many(tmp_path: Path) -> None:
    files, metrics = keeping(tmp_path, [capture(number) for number in range(5)], capture_per_hour=2)
    assert len(files) == 4
    assert 'flywheel_captures_dropped_total{reason="per_hour"} 3.0' in metrics


def test_dropped_and_counted_when_the_queue_is_full(tmp_path: Path) -> None:
    one = capture(1)
    _, metrics = keeping(tmp_path, [one, *[capture(2)] * 50], capture_queue_bytes=one.size + 10)
    assert 'reason="queue_full"' in metrics


def test_waits_and_is_written_when_the_store_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = storage.write
    tries: list[str] = []

    def failing(*arguments: Any) -> None:
        tries.append(arguments[1])
        if len(tries) < 3:
            raise StorageError("away")
        really(*arguments)

    monkeypatch.setattr("serving.capture.write", failing)
    metrics = Metrics()
    capturer = Capturer(Settings(capture_uri=str(tmp_path)), metrics)
    capturer.start()
    start = time.monotonic()
    capturer.offer(capture(1), ["nothing_found"])
    assert time.monotonic() - start < 0.1  # the answer does not wait
    capturer.stop()
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_given_up_and_counted_when_the_store_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "captures").write_text("a file where a folder should be")
    metrics = Metrics()
    capturer = Capturer(Settings(capture_uri=str(tmp_path)), metrics)
    capturer.start()
    capturer.offer(capture(1), ["nothing_found"])
    capturer.offer(capture(2), ["nothing_found"])
    start = time.monotonic()
    capturer.stop(seconds=0.2)
    assert time.monotonic() - start < 5
    assert 'flywheel_captures_dropped_total{reason="shutdown"} 2.0' in metrics.text().decode()


def test_limit_told_when_reached() -> None:
    limits = Limits({"minute": 2, "hour": 3, "day": 4})
    now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC).timestamp()
    assert [limits.reached(now), limits.reached(now), limits.reached(now + 59)] == [None, None, "minute"]
    assert [limits.reached(now + 60), limits.reached(now + 61)] == [None, "hour"]
    assert [limits.reached(now + 3600), limits.reached(now + 7200)] == [None, "day"]
    assert limits.reached(now + 86_400) is None


def test_oldest_forgotten_when_the_memory_is_full() -> None:
    recent = Recent(3 * capture(1).size)
    for number in range(20):
        recent.add(capture(number, capture(1).data))
    assert recent.get(f"{16:032x}") is None
    assert recent.get(f"{19:032x}") is not None
    assert recent.get("unknown") is None
