"""Set-up of the program that trains: no network, and not the user's own settings.

Uses environment variables of Ultralytics and a settings folder of our own. Call it before ultralytics or torch is
imported. LibreYOLO asks the network for nothing when its files are there (a test closes all sockets).
"""

import importlib.util
import logging
import os
import shutil
from pathlib import Path

from runner.errors import StageError
from runner.stages.parallel import workers

#: Parts of Ultralytics' messages that are not shown: its settings and commands, its folders, which are scratch here,
#: and its doubt about `train.cache`, with which trainings on a CPU repeat (tests/e2e/test_pipeline.py).
HINTS = ("yolo settings", "Results saved to", "cache='ram' may produce")
LOGGERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


def set_up(trainer: str, work: Path) -> None:
    """Prepare the environment for the program that `model.trainer` names; StageError: it is not installed."""
    if importlib.util.find_spec(trainer) is None:
        raise StageError(f"model.trainer: {trainer} is not installed; `make setup TRAINER={trainer}` does it")
    if trainer == "ultralytics":
        ultralytics_offline(work)
    else:
        _limit_threads()


def ultralytics_offline(work: Path) -> None:
    """Point Ultralytics at a settings folder in `work`, with telemetry, downloads and loggers off."""
    folder = work / "ultralytics"
    settings = folder / "Ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "YOLO_CONFIG_DIR": str(folder),
        "YOLO_OFFLINE": "true",  # no requests, telemetry or downloads
        "YOLO_AUTOINSTALL": "false",
        "ULTRALYTICS_SAFE_LOAD": "true",  # weights are untrusted: unpickle known classes only
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH")))),  # of subprocesses
    }
    _limit_threads()
    for key in ("ULTRALYTICS_API_KEY", "WANDB_API_KEY", "COMET_API_KEY", "MLFLOW_TRACKING_URI"):
        os.environ.pop(key, None)
    _fonts(settings)

    logging.getLogger("ultralytics").addFilter(lambda record: not any(hint in record.getMessage() for hint in HINTS))
    from ultralytics import settings as ultralytics_settings

    ultralytics_settings.update({"sync": False, "vscode_msg": False, **dict.fromkeys(LOGGERS, False)})


def _limit_threads() -> None:
    os.environ |= {
        "GOMP_SPINCOUNT": "10000",  # waiting threads soon sleep; spinning ones starve others on a shared machine
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(workers()),  # Ultralytics would set 1
    }


def _fonts(settings: Path) -> None:
    """Copy matplotlib's font to where Ultralytics looks for Arial, or else it would download that."""
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        if not (settings / name).exists():
            shutil.copyfile(font, settings / name)
