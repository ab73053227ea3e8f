"""The model server and its detector; imports neither runner, torch nor ultralytics."""

import os

# ONNX Runtime's builds for Linux send usage data to their maker, and keep a file in the temporary folder for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
