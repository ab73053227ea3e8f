"""The model server and its detector; imports neither runner, torch nor ultralytics."""

import os

# ONNX Runtime's Linux builds send telemetry to their maker, and keep a file for it in the temporary folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
