import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import StageError
from runner.stages.offline import set_up


def test_the_trainer_is_named_when_it_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"model\.trainer: nonesuch is not installed; `make setup TRAINER=nonesuch`"):
        set_up("nonesuch", tmp_path)


def test_the_users_settings_stay_untouched_when_ultralytics_is_imported(tmp_path: Path, project: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "from pathlib import Path; from runner.stages.offline import ultralytics_offline\n"
        f"ultralytics_offline(Path({str(tmp_path / 'work')!r}))\n"
        "from ultralytics import settings\n"
        "from ultralytics.utils import LOGGER, ONLINE, SAFE_LOAD, AUTOINSTALL\n"
        "LOGGER.warning(\"cache='ram' may produce non-deterministic training results. Consider\")\n"
        "LOGGER.info('\\nExport complete (1s)\\nResults saved to x\\nValidate: yolo val'); LOGGER.info('epoch 1')\n"
        "from ultralytics.utils.checks import check_font\n"
        "print(ONLINE, SAFE_LOAD, AUTOINSTALL, settings['sync'], settings['mlflow'], check_font('Arial.ttf').is_file())"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "WANDB_API_KEY": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "epoch 1"  # neither Ultralytics' new settings nor its hints
    assert done.stdout.splitlines()[-1] == "False True False False False True"
    assert not (home / ".config" / "Ultralytics").exists()
