"""Metadata of an Ultralytics export, parsed as untrusted text; and what a manifest says of other models."""

import ast
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from serving.vision.letterbox import DECODINGS, SHAPES, InputForm

OUTPUT_FORMS = ("grid", "list", "objectness", "offsets", "queries")
ACTIVATIONS = ("sigmoid", "softmax", "none")
_MAX_LENGTH = 1_000_000  # characters
_MOST_SIDE, _MOST_STRIDE = 8_192, 1_024  # pixels; one inference takes gigabytes beyond that
_SAFE_STRIDE = 64  # a multiple of every detector's own, for files that name none


class ModelError(Exception):
    """The model cannot be loaded, or is no detector that this program can run."""


@dataclass(frozen=True)
class Metadata:
    """Metadata needed to run the model."""

    classes: tuple[str, ...]  # names in id order
    input_hw: tuple[int, int]  # height and width of the input in pixels
    stride: int  # pixels per cell of the coarsest grid
    end2end: bool  # whether the model was trained to output final detections
    form: InputForm | None  # as the export stage writes it; None: no word of it
    lowest: float = 0.0  # confidence below which the graph itself drops detections


@dataclass(frozen=True)
class OutputForm:
    """Form of a model's output, as its manifest declares it; of N pictures, C classes."""

    # grid: (N, 4 + C, A): cx cy w h in pixels, a score per class. list: (N, K, 6): x1 y1 x2 y2 in pixels, confidence,
    # class id; final. objectness: (N, A, 5 + C): cx cy w h in pixels, an objectness and a score per class, which are
    # multiplied (YOLOX, YOLOv5). offsets: the same, with boxes as offsets in cells of strides 8, 16 and 32, as YOLOX
    # without --decode_in_inference. queries: (N, Q, 4 …): cx cy w h as shares of the input, and (N, Q, columns), scores
    # of classes; final (RF-DETR, D-FINE, RT-DETR).
    form: str
    boxes: str = ""  # name of the output with the boxes; empty: the first
    scores: str = ""  # queries: name of the output with the scores, which may be the same
    activation: str = "sigmoid"  # queries: from the scores of the file to those of 0 to 1; none: they are so already
    columns: Sequence[int] | None = None  # queries: column of each class in `scores`; None: the first C

    @property
    def final(self) -> bool:
        """Whether the model has removed duplicates itself."""
        return self.form in ("list", "queries")

    def names(self, found: Sequence[str]) -> list[str]:
        """Return the outputs to ask a model for; ModelError: it has no such output."""
        named = [self.boxes or found[0], *([self.scores] if self.form == "queries" else [])]
        if missing := [name for name in named if name not in found]:
            raise ModelError(f"the declared output {missing[0]!r} is not in the model; expected one of {list(found)}")
        return named


@dataclass(frozen=True)
class Known:
    """What is known of a model without its metadata: from its manifest and its graph."""

    classes: Sequence[str] | None = None  # names in id order; None: unknown
    input_hw: tuple[int, int] | None = None  # pixels; None: unknown
    output: OutputForm | None = None  # as declared; None: recognised, and only YOLO detectors without objectness are


def read(metadata: dict[str, str], known: Known = Known()) -> Metadata:
    """Parse the metadata of a detector; ModelError: a key is missing or invalid, or the model is not a detector.

    The values come from ONNX Runtime: `names`, `imgsz` and `stride` hold Python literals. What they do not say is
    taken from what is known otherwise; a file without `task` needs its classes there. Where the output is declared, the
    declared classes count.
    """
    declared = known.output is not None
    task, head = metadata.get("task"), metadata.get("head", "")
    written_by = head or metadata.get("description", "")  # exports before 8.4 name no head
    if not declared and "rtdetr" in written_by.lower().replace("-", ""):
        raise _wrong(
            "head",
            written_by,
            "that of a YOLO detector; RT-DETR is not supported unless a manifest declares its `output`",
        )
    if task != "detect" and (task is not None or known.classes is None):
        raise _wrong("task", task, "'detect', as Ultralytics' export writes")
    if "imgsz" in metadata or known.input_hw is None:
        height, width = _positive(metadata, "imgsz", 2)
    else:
        height, width = known.input_hw
    stride = _positive(metadata, "stride", 1)[0] if "stride" in metadata or (task and not declared) else _SAFE_STRIDE
    if max(height, width) > _MOST_SIDE:
        raise _wrong("imgsz", [height, width], f"sides of at most {_MOST_SIDE:,} pixels")
    if stride > _MOST_STRIDE:
        raise _wrong("stride", stride, f"at most {_MOST_STRIDE:,} pixels")
    own = "names" in metadata and not (declared and known.classes)
    classes = _classes(metadata) if own or known.classes is None else tuple(known.classes)
    end2end = metadata.get("end2end") == "True"
    return Metadata(classes, (height, width), stride, end2end, _form(metadata), _lowest(metadata))


def _lowest(metadata: dict[str, str]) -> float:
    """Return the confidence at which a graph with suppression in it (`nms=True`) drops detections; 0: it does not."""
    with suppress(ModelError):
        args = _literal(metadata, "args")
        if isinstance(args, dict) and args.get("nms") is True:
            conf = args.get("conf")
            return float(conf) if isinstance(conf, int | float) and 0 <= conf <= 1 else 0.25
    return 0.0


def form_metadata(form: InputForm) -> dict[str, str]:
    """Return the metadata that name an input form."""
    return {"input_shape": form.shape, "decoding": form.decoding}


def _form(metadata: dict[str, str]) -> InputForm | None:
    if metadata.keys().isdisjoint(("input_shape", "decoding")):
        return None
    for key, known in (("input_shape", SHAPES), ("decoding", DECODINGS)):
        if metadata.get(key) not in known:
            raise _wrong(key, metadata.get(key), " or ".join(known))
    return InputForm(metadata["input_shape"], metadata["decoding"])


def _wrong(key: str, found: object, expected: str) -> ModelError:
    return ModelError(f"{key} in the model's metadata is {repr(found)[:80]}; expected {expected}")


def _literal(metadata: dict[str, str], key: str) -> object:
    """Return the Python literal under a key; nothing is executed."""
    text = metadata.get(key, "")
    try:
        if len(text) > _MAX_LENGTH:
            raise ValueError(f"{len(text)} characters")
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _wrong(key, metadata.get(key), "a Python literal, as Ultralytics' export writes") from error


def _positive(metadata: dict[str, str], key: str, count: int) -> list[int]:
    value = _literal(metadata, key)
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    numbers = [number for number in values if type(number) is int and number > 0]
    if not len(numbers) == len(values) == count:
        raise _wrong(key, value, f"{count} whole number(s) above 0")
    return numbers


def _classes(metadata: dict[str, str]) -> tuple[str, ...]:
    """Return the names in id order, from {0: 'name'}, {'0': 'name'} or ['name'], each another text.

    Exporters write empty names (YOLO-World's background) and the same name twice; these get the class's number.
    """
    names = _literal(metadata, "names")
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        texts = {str(class_id): class_id for class_id in range(len(names))}
        names = {texts.get(key, key) if isinstance(key, str) else key: name for key, name in names.items()}
    if not isinstance(names, dict) or not names or set(names) != set(range(len(names))):
        raise _wrong("names", names, "{0: 'name', 1: …} without gaps")
    classes: dict[str, None] = {}  # in id order
    for class_id in range(len(names)):
        name = names[class_id]
        if type(name) not in (str, int):
            raise _wrong("names", names, "a text for each class")
        text = str(name).strip() or f"class {class_id}"
        if not text.isascii() and text != text.encode(errors="replace").decode():
            raise _wrong("names", names, "text that can be written as UTF-8")
        classes[f"{text} ({class_id})" if text in classes else text] = None
    if len(classes) != len(names):
        raise _wrong("names", names, "a different text for each class")
    return tuple(classes)
