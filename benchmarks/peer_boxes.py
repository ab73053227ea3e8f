"""Ultralytics' boxes for a file, in the response format of the peers in benchmarks/server.py."""

import io
from typing import Any

from PIL import Image


def found(model: Any, data: bytes, imgsz: int) -> list[dict[str, Any]]:
    """Return Ultralytics' detections in a file."""
    result = model.predict(Image.open(io.BytesIO(data)), imgsz=imgsz, verbose=False, device="cpu")[0]
    return [
        {"label": result.names[int(box.cls)], "confidence": float(box.conf), "box": box.xyxy[0].tolist()}
        for box in result.boxes
    ]
