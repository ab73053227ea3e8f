"""Detector of the server and of evaluate: bytes of a picture in, boxes in its pixels out.

    detector = Detector(Path("model.onnx"))
    found = detector.detect(Path("picture.jpg").read_bytes())
    for box, confidence, class_id in zip(found.boxes_xyxy_px, found.confidences, found.class_ids):
        print(detector.classes[class_id], confidence, box)

Runs Ultralytics' ONNX exports of YOLOv5u to YOLO26: boxes that need suppression, (N, 4 + classes, A), and end-to-end
lists, (N, 300, 6). Models of other families, such as RF-DETR, D-FINE and YOLOX, run where their form is declared.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.vision.letterbox import DEFAULT_FORM, InputForm, Letterbox, fill, letterbox, to_picture
from serving.vision.metadata import Known, ModelError, OutputForm, read
from serving.vision.outputs import check_grid, check_list, check_output, read_output
from serving.vision.picture import MAX_PIXELS, Picture, decode
from serving.vision.suppression import Rows, from_grid, from_list, suppress

# New proportions bring new input shapes; the default would benchmark every algorithm for each.
_CUDA = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class Options:
    """Options of a detection; one out of its range raises ValueError."""

    confidence: float | Sequence[float] = 0.25  # 0 to 1, for all classes or one per class: a detection must be above it
    iou: float = 0.7  # 0 to 1: of two boxes of one class that overlap more, the less confident is dropped
    max_detections: int = 300  # 1 or more
    classes: Collection[int] | None = None  # ids to look for; None: all
    multi_label: bool = False  # True: a box may have several classes, as in Ultralytics' `val`; False: its best only
    max_pixels: int = MAX_PIXELS  # larger pictures are refused, from their header
    clip: bool = True  # boxes to the picture; False: as the model gives them, as Ultralytics' `val` measures them

    def __post_init__(self) -> None:
        confidence = np.asarray(self.confidence, np.float32)
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise ValueError(f"confidence is {self.confidence}; expected 0 to 1")
        if not 0 <= self.iou <= 1:
            raise ValueError(f"iou is {self.iou}; expected 0 to 1")
        if self.max_detections < 1:
            raise ValueError(f"max_detections is {self.max_detections}; expected 1 or more")


DEFAULTS = Options()


class Phases(NamedTuple):
    """Times of a detection in milliseconds; in a batch each picture has its share."""

    decode: float
    inference: float
    suppression: float


@dataclass(frozen=True)
class Detections:
    """Detections of one picture, the most confident first."""

    boxes_xyxy_px: NDArray[np.float32]  # (N, 4), pixels of the full upright picture, x1 y1 x2 y2; N may be 0
    confidences: NDArray[np.float32]  # (N,), 0 to 1
    class_ids: NDArray[np.int64]  # (N,), indices of `Detector.classes`
    width: int  # pixels of the full upright picture
    height: int
    timings: Phases


@dataclass(frozen=True)
class Inference:
    """Model output for one picture."""

    output: NDArray[np.float32]  # (4 + classes, A) or (K, 6), as `serving.vision.suppression` reads it
    place: Letterbox
    decode_ms: float  # includes the letterbox
    inference_ms: float


class Detector:
    """A loaded model; every method is thread-safe."""

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int = 1,
        form: InputForm = DEFAULT_FORM,
        known: Known = Known(),  # noqa: B008 - it is frozen
    ) -> None:
        """Load a model and run it once on an empty picture.

        Args:
            model: an ONNX file, or its bytes.
            threads: cores per call. 1, with as many calling threads as cores, gives the highest throughput; more cores
                shorten a single call but cost more CPU time.
            form: input form of a model whose metadata name none.
            known: classes and input size of a model whose metadata do not say them; the form of the output of a model
                of another family, which is checked against what the model answers.
        Raises:
            ModelError: not readable, not a detector, or its graph disagrees with its metadata or its declaration.
        """
        self._session = _session(model, threads)
        self.provider: str = self._session.get_providers()[0]  # CPUExecutionProvider, CUDAExecutionProvider, …
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)  # all that was written
        entry: Any = next(iter(self._session.get_inputs()), None)
        fits = entry is not None and entry.type in _DTYPES and len(entry.shape) == 4
        sides = entry.shape[2:] if fits else ()
        if all(isinstance(side, int) for side in sides) and sides:
            known = replace(known, input_hw=tuple(sides))
        written = read(self.metadata, known)
        self.classes = list(written.classes)  # names in id order
        self.stride = written.stride  # pixels per cell of the coarsest grid
        self.input_hw = written.input_hw  # height and width in pixels
        self.lowest_confidence = written.lowest  # detections below it never leave the graph
        expected = zip(entry.shape[1:] if fits else (), (3, *self.input_hw), strict=False)
        if not fits or any(side != length for side, length in expected if isinstance(side, int)):
            shape = f"{entry.type} {tuple(entry.shape)}" if entry is not None else "missing"
            raise ModelError(f"input is {shape}; expected float (1 or any, 3, {self.input_hw[0]}, {self.input_hw[1]})")
        self._input, self._dtype = entry.name, _DTYPES[entry.type]
        # Pictures per inference; None: any number. Fewer are padded with empty ones.
        self.batch: int | None = entry.shape[0] if isinstance(entry.shape[0], int) else None
        self.form = written.form or form  # may be set to another one, for comparisons
        self.output, self._names = self._checked_output(known.output, written.end2end)
        self.end2end = self.output.final  # the output is final detections; `iou` has no effect
        # Whether height and width may be others than those of `input_hw`.
        self.free = not any(isinstance(side, int) for side in entry.shape[2:]) and self._runs_when_small()
        if not self.free and not self.form.whole:
            self.form = replace(self.form, shape="square")

    def detect(self, picture: bytes | Picture, options: Options = DEFAULTS) -> Detections:
        """Find objects in one picture: the bytes of a file, or a decoded one; errors as in `detect_batch`."""
        return self.detect_batch([picture], options)[0]

    def detect_batch(self, pictures: Sequence[bytes | Picture], options: Options = DEFAULTS) -> list[Detections]:
        """Find objects in several pictures with one inference if the model's batch is dynamic, else one by one.

        Pays on a GPU. On a CPU, calls of `detect` from several threads are faster. PictureError: a picture cannot be
        read; the others get no result either. ValueError: `confidence` or `classes` does not fit the model's classes.
        """
        self._thresholds(options)  # rejects wrong options before the inference
        return [self.select(each, options) for each in self.infer(pictures, max_pixels=options.max_pixels)]

    def infer(self, pictures: Sequence[bytes | Picture], *, max_pixels: int = MAX_PIXELS) -> list[Inference]:
        """Run the model; `select` then extracts detections from each output, repeatedly if needed.

        A picture that cannot be read or is larger than max_pixels raises PictureError.
        """
        start = perf_counter()
        prepared = [self.prepare(picture, max_pixels=max_pixels) for picture in pictures]
        decoded = perf_counter()
        outputs = self._run_all([inputs for inputs, _ in prepared])
        share = 1e3 / max(1, len(pictures))
        decode_ms, inference_ms = (decoded - start) * share, (perf_counter() - decoded) * share
        return [
            Inference(output, place, decode_ms, inference_ms)
            for output, (_, place) in zip(outputs, prepared, strict=True)
        ]

    def decode(self, picture: bytes | Picture, max_pixels: int = MAX_PIXELS) -> Picture:
        """Decode a picture as the model's input form says, see `serving.vision.picture.decode`; a decoded one stays."""
        if isinstance(picture, Picture):
            return picture
        return decode(picture, **self.form.decode_options(self.input_hw), max_pixels=max_pixels)

    def prepare(
        self, picture: bytes | Picture, *, max_pixels: int = MAX_PIXELS
    ) -> tuple[NDArray[np.float32], Letterbox]:
        """Return the input for one picture, (1, 3, H, W) float32, and the picture's position in it.

        Its values are those of the input form: 0 to 1, RGB, unless the model's declaration says otherwise.
        """
        picture = self.decode(picture, max_pixels)
        place = letterbox(picture.width, picture.height, self.input_hw, stride=self.stride, shape=self.form.shape)
        inputs = np.empty((1, 3, place.input_height, place.input_width), np.float32)
        fill(picture, place, inputs[0], self.form)
        return inputs, place

    def select(self, inferred: Inference, options: Options = DEFAULTS) -> Detections:
        """Extract detections from the model's output; `max_pixels` has no effect here."""
        start = perf_counter()
        thresholds, place = self._thresholds(options), inferred.place
        limit = options.max_detections

        def placed(rows: Rows) -> Rows:
            boxes = to_picture(rows.boxes_xyxy_px, place, clip=options.clip, shape=self.form.shape)
            return replace(rows, boxes_xyxy_px=boxes)

        match self.output.form:
            case "list":
                rows = placed(from_list(inferred.output, thresholds).best(limit))
            case "queries":  # each pair of a query and a class is a detection
                rows = placed(from_grid(inferred.output, thresholds, multi_label=True).best(limit))
            case "grid":
                candidates = from_grid(inferred.output, thresholds, multi_label=options.multi_label)
                rows = placed(suppress(candidates, iou=options.iou, limit=limit))
            case _:  # as LibreYOLO: boxes are compared by what of them is in the picture
                candidates = placed(from_grid(inferred.output, thresholds, multi_label=options.multi_label))
                sides = candidates.boxes_xyxy_px[:, 2:] - candidates.boxes_xyxy_px[:, :2]
                candidates = candidates.take(np.flatnonzero((sides > 0).all(axis=1)))
                rows = suppress(candidates, iou=options.iou, limit=limit)
        timings = Phases(inferred.decode_ms, inferred.inference_ms, (perf_counter() - start) * 1e3)
        return Detections(rows.boxes_xyxy_px, rows.confidences, rows.class_ids, place.width, place.height, timings)

    def _run_all(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the output for each input; inputs of one shape share an inference, up to the model's batch."""
        outputs: dict[int, NDArray[np.float32]] = {}
        for shape in {each.shape for each in inputs}:
            same = [i for i, each in enumerate(inputs) if each.shape == shape]
            step = self.batch or len(same)
            for some in (same[place : place + step] for place in range(0, len(same), step)):
                padding = [np.zeros(shape, np.float32)] * (step - len(some))
                whole = [*(inputs[i] for i in some), *padding]
                found = self._run(np.concatenate(whole) if len(whole) > 1 else whole[0])
                outputs.update(zip(some, found, strict=False))
        return [outputs[i] for i in range(len(inputs))]

    def _run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = inputs.shape[2:]
        return read_output(self.output, self._raw(self._names, inputs), len(self.classes), (height, width))

    def _raw(self, names: Sequence[str], inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = self._session.run(names, {self._input: inputs.astype(self._dtype, copy=False)})
        return [np.asarray(output, np.float32) for output in outputs]

    def _thresholds(self, options: Options) -> NDArray[np.float32]:
        """Return (classes,) float32 from `confidence` and `classes`, inf for an unwanted class."""
        count = len(self.classes)
        confidence = np.asarray(options.confidence, np.float32)
        if confidence.shape not in ((), (count,)):
            raise ValueError(f"confidence is {options.confidence}; expected one for all classes, or {count}")
        ids = list(range(count) if options.classes is None else options.classes)
        if not all(0 <= class_id < count for class_id in ids):
            raise ValueError(f"classes is {ids}; expected ids of 0 to {count - 1}")
        thresholds = np.full(count, np.inf, np.float32)
        thresholds[ids] = np.broadcast_to(confidence, count)[ids]
        return thresholds

    def _runs_when_small(self) -> bool:
        """Whether the model runs on the smallest input; a fixed-length end-to-end list may be longer than its grid."""
        place = letterbox(self.input_hw[1], 1, self.input_hw, stride=self.stride, shape=self.form.shape)
        return self._runs(self._names, np.zeros((1, 3, place.input_height, place.input_width), np.float32))

    def _runs(self, names: Sequence[str], inputs: NDArray[np.float32]) -> bool:
        """Whether the model runs on an input; an axis may be free by name alone, as the batch of a D-FINE."""
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4
        try:
            self._session.run(names, {self._input: inputs.astype(self._dtype, copy=False)}, quiet)
        except Exception:  # noqa: BLE001 - as below
            return False
        return True

    def _checked_output(self, declared: OutputForm | None, end2end: bool) -> tuple[OutputForm, list[str]]:
        """Run the model on an empty picture and on noise; return the form of its output, and the outputs' names.

        Other detectors have outputs of the same shape: what is in them tells.
        """
        form = declared or OutputForm("grid")
        names = form.names([each.name for each in self._session.get_outputs()])
        count, classes = self.batch or 1, len(self.classes)
        noise = np.random.default_rng(0).random((count, 3, *self.input_hw), np.float32)
        noise = (noise * np.float32(255 * self.form.scale) - self.form.mean[0]) / np.float32(self.form.std[0])
        try:
            empty, noisy = self._raw(names, np.zeros_like(noise)), self._raw(names, noise)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(f"the model does not run on an empty picture: {error}") from error
        if any(np.isnan(output).any() for output in (*empty, *noisy)):
            raise ModelError(
                "the output has values that are no numbers (NaN); expected another precision of the export"
            )
        shape = empty[0].shape
        if declared is None and (end2end or len(shape) != 3 or shape[:2] != (count, 4 + classes)):
            form = OutputForm("list")
        if declared is None and form.form == "list" and not (len(shape) == 3 and shape[0] == count and shape[2] == 6):
            raise ModelError(
                f"output is {shape}; expected (N, {4 + classes}, boxes) for the {classes} classes of its metadata, or "
                "(N, boxes, 6) of an end-to-end model; of another family, a manifest that declares the `output`"
            )
        for outputs in (empty, noisy):
            read_output(form, outputs, classes, self.input_hw)  # raises for other shapes
        if form.form == "grid":
            check_grid(empty[0][0])
        elif form.form == "list":
            check_list(np.concatenate([empty[0][0], noisy[0][0]]))
        else:
            check_output(form, [np.concatenate(both) for both in zip(empty, noisy, strict=True)], classes)
            self.batch = self.batch or (None if self._runs(names, noise.repeat(2, axis=0)) else 1)
        return form, names


def on_gpu() -> bool:
    """Whether this ONNX Runtime can use CUDA; without a device, a session is on the CPU all the same."""
    return _CUDA[0] in ort.get_available_providers()


def _session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """Return a session on CUDA where available, else on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads doubled the CPU time of a call, and took cores from other calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [_CUDA, "CPUExecutionProvider"] if on_gpu() else ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=providers)
    except Exception as error:  # as above
        if "xternal data" in str(error):
            raise ModelError(
                "the weights are in a file beside the model (external data); expected one file: "
                "onnx.save(onnx.load('model.onnx'), 'one.onnx') makes it"
            ) from error
        raise ModelError(f"not an ONNX model that ONNX Runtime {ort.__version__} can load: {error}") from error
