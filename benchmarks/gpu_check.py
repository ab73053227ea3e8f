"""`make gpu-check`: what only a GPU can show, in at most six minutes: `python -m benchmarks.gpu_check [--seconds 360]`.

A drawn sample is trained in a folder of its own, killed after an epoch, resumed, exported and evaluated by the stages
themselves; then Ultralytics' network runs in PyTorch by itself. Without a GPU the same steps run on the CPU. The last
lines say what was not done: a step that needs what is not here, and each that begins too late. It needs the packages of
`make setup`, no network, no DVC and no Git. Exit status: 1 when a step failed.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import torch
import yaml
from PIL import Image

from benchmarks.rounds import PROJECT, shell
from serving.vision.detector import Detector
from tests.support.pictures import encoded

GPU = torch.cuda.is_available()
EPOCHS, PICTURES, SIDE = (6, 200, 320) if GPU else (3, 40, 96)  # [epochs], [pictures], [px]
TOLD = (
    "AutoBatch: Using",
    "AMP:",
    "CUDA:",
    "continuing after",
    "best.pt:",
)  # parts of the lines of a training to print


class CheckError(Exception):
    """A step did not do what it should; the text says what it did."""


class Bench(NamedTuple):
    """A small project, and the time of the end."""

    folder: Path
    ends: float  # of time.monotonic()

    def stage(self, name: str) -> str:
        """Run a stage; return what it printed."""
        command = [sys.executable, "-m", "runner", name]
        environment = shell() | {"PYTHONPATH": str(PROJECT)}
        left = max(1.0, self.ends - time.monotonic())
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(command, cwd=self.folder, env=environment, timeout=left, check=False, **pipes)
        if done.returncode:
            raise CheckError(f"stage {name}: {done.stdout[-1500:]}")
        return str(done.stdout)

    def told(self, text: str) -> str:
        """Return the lines of a training that say what it ran on."""
        return "; ".join(line.strip() for line in text.splitlines() if any(part in line for part in TOLD))


def prepare(bench: Bench) -> str:
    """Draw the sample and bring it to the form that the training reads."""
    for name in ("params.yaml", "dvc.yaml", "constraints-train.txt"):
        shutil.copy(PROJECT / name, bench.folder)
    shutil.copytree(PROJECT / "conf", bench.folder / "conf")
    file = bench.folder / "params.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["presets"]["train"] = "gpu" if GPU else "cpu"
    values["dataset"]["sample"] = {"pictures": PICTURES, "seed": 0}
    values["split"] |= {"val": 0.2, "test": 0.2}
    values["model"]["imgsz"] = SIDE
    values["train"] = {"epochs": EPOCHS, "batch": -1 if GPU else 8}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    for stage in ("compose", "fetch", "prepare", "split"):
        bench.stage(stage)
    return f"{PICTURES} pictures, {EPOCHS} epochs at {SIDE} px, train.batch {values['train']['batch']}, amp {GPU}"


def killed(bench: Bench) -> str:
    """Train until a checkpoint is there, then SIGKILL the training; its processes that load pictures end with it."""
    environment = shell() | {"PYTHONPATH": str(PROJECT)}
    log = bench.folder / "killed.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "runner", "train"]
        started = subprocess.Popen(command, cwd=bench.folder, env=environment, stdout=file, stderr=file)
    try:
        while not any(bench.folder.glob(".work/train/*/checkpoints/0*")):
            if time.monotonic() > bench.ends:
                raise subprocess.TimeoutExpired(command, 0)
            if started.poll() is not None:
                raise CheckError(f"no checkpoint came: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.02)
    finally:
        started.kill()
        started.wait()
    return bench.told(log.read_text(encoding="utf-8", errors="replace")) or "killed after a checkpoint"


def resumed(bench: Bench) -> str:
    """Train again: the checkpoint is continued, and every epoch is in results.csv once."""
    text = bench.stage("train")
    if "continuing after" not in text:
        raise CheckError(f"the training began anew: {text[-1500:]}")
    rows = (bench.folder / "artifacts/model/results.csv").read_text(encoding="utf-8").splitlines()[1:]
    if [int(row.split(",")[0]) for row in rows] != list(range(1, EPOCHS + 1)):
        raise CheckError(f"results.csv has the epochs {[row.split(',')[0] for row in rows]}, expected 1 to {EPOCHS}")
    return bench.told(text)


def measured(bench: Bench) -> str:
    """Export the weights and evaluate the ONNX file, as every training does."""
    bench.stage("export")
    return bench.stage("evaluate").strip().splitlines()[-1]


def throughput(bench: Bench) -> str:
    """Pictures a second of yolo11n at 640 px in PyTorch, inference alone, by batch and precision."""
    from ultralytics.nn.tasks import DetectionModel

    device = torch.device("cuda" if GPU else "cpu")
    network = DetectionModel("yolo11n.yaml", verbose=False).eval().to(device)
    said: list[str] = []
    for kind, dtype in (("float32", torch.float32), *([("float16", torch.float16)] if GPU else [])):
        network = network.to(dtype)
        for batch in (1, 16, 64) if GPU else (1,):
            inputs = torch.zeros((batch, 3, 640, 640), dtype=dtype, device=device)
            with torch.inference_mode():
                network(inputs)
                _wait()
                began, rounds = time.perf_counter(), 0
                while time.perf_counter() - began < 2:
                    network(inputs)
                    _wait()
                    rounds += 1
            said.append(f"{kind} batch {batch}: {batch * rounds / (time.perf_counter() - began):,.1f}/s")
    return ", ".join(said)


def served(bench: Bench) -> str:
    """The server's detector with CUDA finds what it finds on the CPU; pictures a second by batch."""
    onnx = bench.folder / "artifacts/export/model.onnx"
    detector = Detector(onnx)
    if detector.provider != "CUDAExecutionProvider":
        raise CheckError(f"ONNX Runtime has CUDA but runs on {detector.provider}; its log says why")
    inputs = np.random.default_rng(0).random((16, 3, *detector.input_hw), np.float32)
    exact = ("CUDAExecutionProvider", {"use_tf32": "0"})
    outputs = []
    for provider in (exact, "CPUExecutionProvider"):
        session = ort.InferenceSession(str(onnx), providers=[provider])
        outputs.append(session.run(None, {session.get_inputs()[0].name: inputs[:1]})[0])
    apart = float(np.abs(outputs[0][:, 4:] - outputs[1][:, 4:]).max())
    if apart > 0.01:
        raise CheckError(
            f"confidences differ by {apart:.3f} between CUDA (TF32 off) and the CPU, expected at most 0.01"
        )
    picture = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)))
    said = [f"confidences at most {apart:.4f} apart"]
    for batch in (1, 16):
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < 3:
            detector.detect_batch([picture] * batch)
            rounds += 1
        said.append(f"batch {batch}: {batch * rounds / (time.perf_counter() - began):,.1f} pictures/s with decoding")
    return ", ".join(said)


def _wait() -> None:
    if GPU:
        torch.cuda.synchronize()


#: Step, what it does, and seconds that it should have left to begin.
STEPS: tuple[tuple[str, Callable[[Bench], str], int], ...] = (
    ("data", prepare, 60),
    ("training, killed", killed, 60),
    ("training, resumed", resumed, 60),
    ("export, evaluate", measured, 40),
    ("PyTorch", throughput, 25),
)


def main() -> int:
    """Run the steps that fit; print each with its seconds, then what was not done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--seconds", type=int, default=360, help="in all (default: 360)")
    ends = time.monotonic() + parser.parse_args().seconds
    print(f"torch {torch.__version__}, onnxruntime {ort.__version__}, {_device()}", flush=True)
    steps, missing, failed = (
        list(STEPS),
        ["several GPUs (DDP)", "Ultralytics' and LitServe's servers beside ours"],
        False,
    )
    if not GPU:
        missing += ["anything on a GPU: train.batch -1, mixed precision, CUDA's throughput; this was the CPU path"]
    if "CUDAExecutionProvider" in ort.get_available_providers():
        steps.append(("server's detector", served, 40))
    else:
        missing.append("serving with CUDA: this ONNX Runtime has none (package onnxruntime-gpu)")
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        bench = Bench(Path(folder), ends)
        for number, (name, step, least) in enumerate(steps):
            began = time.monotonic()
            if failed or ends - began < least:
                missing += [f"{each}: {'a step before failed' if failed else 'no time'}" for each, *_ in steps[number:]]
                break
            try:
                text = step(bench)
            except subprocess.TimeoutExpired:
                text = "ran out of time"
                missing.append(f"{name}: {text}")
            except CheckError as error:
                text, failed = f"FAILED: {error}", True
            print(f"{name} ({time.monotonic() - began:.0f} s): {text}", flush=True)
    print("\n".join(["not done:", *(f"  {each}" for each in missing)]))
    return int(failed)


def _device() -> str:
    return f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}" if GPU else "no GPU"


if __name__ == "__main__":
    sys.exit(main())
