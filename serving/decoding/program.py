"""Program of a decoder process: pictures come on standard input, answers go to standard output.

It may be killed at any time. It decodes what can be hostile, under limits of memory and CPU time of its own. Its
answers are JSON and plain bytes, so a broken decoder can give nothing but a wrong picture.
"""

import json
import os
import resource
import signal
import struct
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from PIL import AvifImagePlugin, Image

from serving.drawing import encode
from serving.vision.letterbox import InputForm, letterbox, scaled
from serving.vision.marks import draw_marks
from serving.vision.picture import Picture, PictureError, decode
from serving.vision.similarity import difference_hash

if TYPE_CHECKING:
    from serving.vision.detector import Detector

FRAME = struct.Struct(">IQ")  # before each message: bytes of its JSON, bytes of its data
_JPEG_QUALITY = 95


class Reply(NamedTuple):
    """Result of a task."""

    facts: dict[str, Any]
    data: bytes


def fitted(data: bytes, *, input_hw: tuple[int, int], stride: int, shape: str, decoding: str) -> Reply:
    """Decode a picture that `header_of` accepted, and scale it, as a detector of this input form would."""
    picture = decode(data, **InputForm(shape, decoding).decode_options(input_hw), checked=True)
    place = letterbox(picture.width, picture.height, input_hw, stride=stride, shape=shape)
    image = scaled(picture.image, place, decoding)
    facts = {name: value for name, value in vars(picture).items() if name != "image"}
    return Reply(facts | {"size": image.size}, image.tobytes())


def fitting(detector: "Detector") -> dict[str, Any]:
    """Return the arguments of `fitted` for a detector."""
    form = detector.form
    return {
        "input_hw": detector.input_hw,
        "stride": detector.stride,
        "shape": form.shape,
        "decoding": form.decoding,
    }


def read_picture(reply: Reply) -> Picture:
    """Return the picture of a reply to `fitted`."""
    facts = dict(reply.facts)
    return Picture(image=Image.frombytes("RGB", tuple(facts.pop("size")), reply.data), **facts)


def drawn(data: bytes, *, marks: list[tuple[Sequence[float], str, str]], kind: str) -> Reply:
    """Return a picture with boxes, encoded as `kind`: image/jpeg or image/png."""
    return Reply({}, encode(draw_marks(decode(data, checked=True).image, marks), kind))


def hashed(data: bytes) -> Reply:
    """Return the difference hash of a picture, see `serving.vision.similarity`."""
    return Reply({"hash": difference_hash(decode(data, fit=64, checked=True).image)}, b"")


def upright_jpeg(data: bytes, *, anew: bool = False) -> Reply:
    """Return a picture as an upright JPEG; nothing, where it is the `same` already, because boxes are in its pixels.

    With `anew` it is encoded in any case, so that the result can be decoded without these limits.
    """
    picture = decode(data, checked=True)
    if picture.format == "JPEG" and picture.plain and not anew:
        return Reply({"same": True}, b"")
    return Reply({"same": False}, encode(picture.image, "image/jpeg", _JPEG_QUALITY))


TASKS: dict[str, Callable[..., Reply]] = {task.__name__: task for task in (fitted, drawn, hashed, upright_jpeg)}


def send(pipe: IO[bytes], facts: dict[str, Any], data: bytes) -> None:
    """Write a message."""
    text = json.dumps(facts).encode()
    pipe.write(FRAME.pack(len(text), len(data)))
    pipe.write(text)
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read a message; None: there is no more."""
    if not (head := pipe.read(FRAME.size)):
        return None
    length, size = FRAME.unpack(head)
    return json.loads(pipe.read(length)), pipe.read(size)


def limit(memory: int, seconds: int) -> None:
    """Limit what this process may take from now on, beside what it has; memory in bytes, seconds of CPU."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - opened for every picture
        held = int(file.read().split()[0]) * resource.getpagesize()
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft(resource.RLIMIT_AS, held + memory)
    _set_soft(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


def _set_soft(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    finite = [each for each in (value, hard) if each != resource.RLIM_INFINITY]  # which is -1
    resource.setrlimit(kind, (min(finite, default=resource.RLIM_INFINITY), hard))


def begin() -> tuple[IO[bytes], IO[bytes]]:
    """Make this process one that may be killed; return where requests come from, and where answers go."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server ends it, when it has no more work for it
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("1000")  # if anything has to go, then this process
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # libraries print
        os.dup2(quiet, descriptor)
    send(answers, {"ready": True}, b"")
    return source, answers


def main() -> None:
    """Answer until standard input ends."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # threads reserve address space
    source, answers = begin()
    while message := receive(source):
        request, data = message
        try:
            limit(request["memory"], request["seconds"])
            facts, result = TASKS[request["task"]](data, **request["arguments"])
        except PictureError as error:
            facts, result = {"error": type(error).__name__, "message": str(error)}, b""
        except MemoryError:
            facts, result = {"error": "MemoryError", "message": ""}, b""
        finally:
            _set_soft(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        del data, message
        Image.core.clear_cache()  # type: ignore[attr-defined]
        send(answers, facts, result)


if __name__ == "__main__":
    main()
