"""The boxes that Ultralytics finds in a file, as the peers of benchmarks/server.py answer them."""

import io
from typing import Any

from PIL import Image


def found(model: Any, data: bytes, imgsz: int) -> list[dict[str, Any]]:
    """What Ultralytics finds in a file."""
    result = model.predict(Image.open(io.BytesIO(data)), imgsz=imgsz, verbose=False, device="cpu")[0]
    return [
        {"label": result.names[int(box.cls)], "confidence": float(box.conf), "box": box.xyxy[0].tolist()}
        for box in result.boxes
    ]
