"""What a `dvc repro` leaves behind, made in a blink: a tiny model whose answers are known, measured for real."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runner.config.compose import compose, write_stage_files
from runner.config.override import NOTE
from runner.config.schema import EvaluateConfig, SampleConfig
from runner.dataset.entries import write_entries
from runner.dataset.picture_cache import cache_folder, keep_bytes
from runner.release.contents import releasing
from runner.release.gate import gate
from runner.release.publish import PublishResult, publish
from runner.stages.evaluate.evaluate import evaluate
from runner.stages.fetch import Origin
from runner.stages.picture_files import PictureFiles
from runner.store import open_store
from serving.storage.manifest import Verdict
from tests.conftest import PROJECT
from tests.support.pictures import SETTINGS as PREPARE
from tests.support.pictures import encoded
from tests.unit.conftest import model

SETTINGS = EvaluateConfig(iou=0.7, max_detections=300, worst=20)
# cx cy w h, airplane, helicopter, in an input of 32x32: always an airplane at the left, and at the right a helicopter
# that is the more confident the brighter the picture.
ANSWERS = np.array([[8, 16, 8, 8, 0.6, 0], [24, 16, 8, 8, 0, 0.1]], np.float32).T
BLIND = np.array([[8, 16, 8, 8, 0.6, 0], [8, 16, 8, 8, 0, 0.1]], np.float32).T  # takes helicopters to be elsewhere
LEFT, RIGHT = "0.25 0.5 0.25 0.25", "0.75 0.5 0.25 0.25"
PRESETS = {"dataset": "sample", "model": "yolo11n_scratch", "augment": "none", "train": "smoke", "gate": "default"}


def seeing(**metadata: Any) -> bytes:
    """A model that finds both classes."""
    return model(ANSWERS, bright=(5, 1), **metadata)


def comment(text: str) -> PngInfo:
    """A picture's own bytes, whatever it shows."""
    info = PngInfo()
    info.add_itxt("Comment", text)
    return info


def blind(**metadata: Any) -> bytes:
    """A model of the same size that finds airplanes alone."""
    return model(BLIND, bright=(5, 1), **metadata)


class Folders:
    """The folders that `evaluate` reads, and the cache of pictures; nothing can bring back one that it lacks."""

    def __init__(self, root: Path, onnx: bytes, work: Path | None = None) -> None:
        self.root, self.index = root, list[dict[str, Any]]()
        self.work = work or root / ".work"
        sample = SampleConfig(pictures=20, seed=0)
        self.files = PictureFiles(Origin("sample", None, sample, root, self.work), PREPARE)
        for folder in ("dataset", "split", "export"):
            (root / folder).mkdir(parents=True)
        self.onnx = root / "export/model.onnx"
        self.onnx.write_bytes(onnx)
        (root / "dataset/classes.txt").write_text("airplane\nhelicopter\n")
        self.parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}

    def add(self, part: str, name: str, labels: str | None, brightness: int = 0) -> None:
        data = encoded(Image.new("RGB", (64, 64), (brightness,) * 3), "PNG", pnginfo=comment(name))
        entry = {"image": f"images/{name}.jpg", "source": f"images/{name}.png", "labels": labels or ""}
        file = {"sha256": keep_bytes(data, self.work), "bytes": len(data), "encoded": None}
        self.index.append(entry | file | {"width": 64, "height": 64, "part": None, "look": None})
        self.parts[part].append(f"images/{name}.jpg")

    def evaluate(self, settings: EvaluateConfig = SETTINGS, out: str = "evaluation") -> str:
        write_entries(self.root / "dataset", self.index)
        for part, images in self.parts.items():
            (self.root / f"split/{part}.txt").write_text("".join(f"{image}\n" for image in images))
        known = (each for each in self.index if each["image"] not in self.parts["test"])
        (self.root / "split/trained.txt").write_text(
            "".join(f"{each['sha256']} {each['look'] or ''}\n" for each in known)
        )
        (self.root / out).mkdir()
        dataset, split = self.root / "dataset", self.root / "split"
        return evaluate(self.onnx, dataset, split, settings, self.root / out, files=self.files)

    def picture(self, name: str) -> Path:
        """The file of a picture in the cache."""
        (entry,) = (each for each in self.index if each["image"] == f"images/{name}.jpg")
        return cache_folder(self.work) / str(entry["sha256"])

    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "evaluation/metrics.json").read_text())
        return content


class Trained:
    """A project after a `dvc repro`, with bright pictures of both classes in test."""

    def __init__(self, folder: Path, onnx: bytes | None = None, **params: Any) -> None:
        self.folder = folder
        shutil.copytree(PROJECT / "conf", folder / "conf")
        self.params: dict[str, Any] = {"presets": PRESETS, "gate": {"min_boxes": 1, "max_latency": 1000.0}}
        self.set(**params)
        self.folders = Folders(folder / "artifacts", seeing() if onnx is None else onnx, folder / ".work")
        for part in ("val", "test"):
            for number in range(4):
                self.folders.add(part, f"{part}{number}", f"0 {LEFT}\n1 {RIGHT}\n", brightness=200 + number)
        self.repro()

    def set(self, **sections: Any) -> None:
        """Write params.yaml with these sections changed; `repro` makes the rest follow."""
        for name, section in sections.items():
            old = self.params.get(name)
            self.params[name] = {**old, **section} if isinstance(old, dict) else section
        text = yaml.safe_dump(self.params, allow_unicode=True)
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")

    def try_out(self) -> None:
        """Let params.yaml say that it has values of one run."""
        params = self.folder / "params.yaml"
        params.write_text(f"{NOTE}started by hand with gate.min_map50=0\n{params.read_text()}")

    def repro(self, onnx: bytes | None = None) -> None:
        """Make everything in artifacts/ anew, with another model if one is given."""
        artifacts = self.folder / "artifacts"
        if onnx is not None:
            self.folders.onnx.write_bytes(onnx)
        shutil.rmtree(artifacts / "evaluation", ignore_errors=True)
        self.folders.evaluate()
        (artifacts / "config").mkdir(exist_ok=True)
        write_stage_files(compose(self.folder)[0], artifacts / "config")
        for name in ("report", "model"):
            (artifacts / name).mkdir(exist_ok=True)
        report = {"pictures": {"kept": len(self.folders.index)}, "boxes": {"airplane": 8, "helicopter": 8}}
        (artifacts / "report/report.json").write_text(json.dumps(report))
        (artifacts / "model/best.pt").write_bytes(b"weights of " + self.folders.onnx.read_bytes()[:1000])
        (artifacts / "model/results.csv").write_text("epoch\n1\n")
        (self.folder / "dvc.lock").write_text("schema: '2.0'\n")

    def judge(self) -> Verdict:
        with chdir(self.folder):
            return gate(self.folder)

    def publish(self) -> PublishResult:
        with chdir(self.folder), releasing(self.folder) as release:
            return publish(open_store(self.folder), release)
