"""Metadata of an Ultralytics export, parsed as untrusted text."""

import ast
from dataclasses import dataclass

from serving.vision.letterbox import DECODINGS, SHAPES, InputForm

_MAX_LENGTH = 1_000_000  # characters


class ModelError(Exception):
    """The model cannot be loaded, or is not a detector exported by Ultralytics."""


@dataclass(frozen=True)
class Metadata:
    """Metadata needed to run the model."""

    classes: tuple[str, ...]  # names in id order
    input_hw: tuple[int, int]  # height and width of the input in pixels
    stride: int  # pixels per cell of the coarsest grid
    end2end: bool  # whether the model was trained to output final detections
    form: InputForm | None  # as the export stage writes it; None: no word of it


def read(metadata: dict[str, str]) -> Metadata:
    """Parse the metadata of a detector; ModelError: a key is missing or invalid, or the model is not a detector.

    The values come from ONNX Runtime: `names`, `imgsz` and `stride` hold Python literals.
    """
    if (task := metadata.get("task")) != "detect":
        raise _wrong("task", task, "'detect', as Ultralytics' export writes")
    height, width = _positive(metadata, "imgsz", 2)
    (stride,) = _positive(metadata, "stride", 1)
    return Metadata(_classes(metadata), (height, width), stride, metadata.get("end2end") == "True", _form(metadata))


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
    names = _literal(metadata, "names")
    if not isinstance(names, dict) or not names or set(names) != set(range(len(names))):
        raise _wrong("names", names, "{0: 'name', 1: …} without gaps")
    classes = [names[class_id] for class_id in range(len(names))]
    if not all(isinstance(name, str) and name for name in classes) or len(set(classes)) != len(classes):
        raise _wrong("names", names, "a different text for each class")
    return tuple(classes)
