"""LitServe with Ultralytics, as in its documentation, with one worker process per core."""

import os
from typing import Any

import litserve
from fastapi import UploadFile

from benchmarks.peer_boxes import found


class Detect(litserve.LitAPI):  # type: ignore[misc]
    """Worker with its own model and one thread."""

    def __init__(self, path: str, imgsz: int) -> None:
        """Take the weights and the side of the input in pixels."""
        super().__init__(api_path="/detect")
        self.path, self.imgsz = path, imgsz

    def setup(self, device: str) -> None:
        """Load the model."""
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(1)
        self.yolo = YOLO(self.path, task="detect")

    def decode_request(self, request: UploadFile) -> bytes:
        """Return the bytes of the file."""
        return request.file.read()

    def predict(self, data: bytes) -> list[dict[str, Any]]:
        """Return the detections."""
        return found(self.yolo, data, self.imgsz)

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the response as JSON."""
        return {"detections": output}


def serve(port: int, path: str, imgsz: int) -> None:
    """Run until the process ends."""
    workers = len(os.sched_getaffinity(0))
    server = litserve.LitServer(Detect(path, imgsz), accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(port=port, log_level="warning", generate_client_file=False)
