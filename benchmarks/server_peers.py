"""What others write to serve a YOLO model; each is run beside our server by benchmarks/server.py.

`python -m benchmarks.server_peers NAME PORT MODEL IMGSZ`, with NAME one of:

once      FastAPI and Ultralytics, the model loaded once, as most tutorials do
each      FastAPI and Ultralytics, the model loaded for every request, as the workshop's server does
litserve  LitServe and Ultralytics, as its documentation shows
"""

import sys
from typing import Any

from benchmarks.peer_boxes import found


def fastapi(port: int, path: str, imgsz: int, *, each: bool) -> None:
    """Serve with FastAPI; the model is loaded once or for each request."""
    import uvicorn
    from fastapi import FastAPI, UploadFile
    from ultralytics import YOLO

    app = FastAPI()
    kept = None if each else YOLO(path, task="detect")

    # On the event loop, because an Ultralytics model is not thread-safe.
    @app.post("/detect")
    async def detect(file: UploadFile) -> list[dict[str, Any]]:
        return found(kept or YOLO(path, task="detect"), await file.read(), imgsz)

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    name, port, path, imgsz = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if name == "litserve":
        from benchmarks.server_litserve import serve

        serve(port, path, imgsz)
    else:
        fastapi(port, path, imgsz, each=name == "each")
