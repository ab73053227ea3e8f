"""The server stays small: it loads nothing of the training half."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys, serving.app
serving.app.create_app()
print(*sorted(sys.modules))
"""


def test_no_training_library_loaded_when_the_server_is_imported(project: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MODEL_URI"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    modules = done.stdout.split()
    loaded = {name.partition(".")[0] for name in modules}
    assert "serving" in loaded
    assert not loaded & {"torch", "torchvision", "ultralytics", "runner", "cv2", "onnx", "dvc", "matplotlib", "pandas"}
    # Without a collector: FastAPI itself imports the interface.
    assert not [name for name in modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]


def test_nobody_is_told_when_a_model_is_loaded(project: Path, tmp_path: Path) -> None:
    code = "import serving, os, onnxruntime; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    subprocess.run([sys.executable, "-c", code], cwd=project, env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())
