"""Program of a process that decodes one video: the file comes on standard input, its frames go to standard output.

A few hundred bytes of a video can ask for gigabytes already while it is opened, and one frame for minutes, so this is
done under limits, where it can be ended. Needs the extra `video` (PyAV).

Messages: the file with `memory` (bytes) and `seconds` (of CPU) → `StreamFacts`; `memory`, `seconds`, `every`, `drawn`
→ for each frame `seconds` (in the video), and where it is asked for `size` and the upright pixels; then `ended`.
"""

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream

from serving.decoding.program import begin, limit, receive, send

# A fixed demuxer, so that a file cannot select one that opens other files or addresses.
_DEMUXER = "mov"


def stream_facts(stream: VideoStream) -> dict[str, Any]:
    """Return what is known of a video before its frames are decoded."""
    context = stream.codec_context
    length = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    return {
        "width": context.width,
        "height": context.height,
        "codec": context.name,
        "bits": context.format.padded_bits_per_pixel if context.format else 0,  # of a pixel; 0: unknown
        "length": length,  # seconds, as the file claims; 0: unknown
        "rate": str(stream.average_rate or 25),  # frames a second, a fraction
    }


def frames_of(data: bytes, requests: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the messages about a video."""
    with av.open(io.BytesIO(data), "r", format=_DEMUXER) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            yield {"error": "no pictures"}, b""
            return
        yield stream_facts(stream), b""
        asked = next(requests)
        context = stream.codec_context
        # The frame size may change inside a video, but only to a smaller one; coded sizes are rounded up.
        context.options = {"max_pixels": str((context.width + 64) * (context.height + 64))}
        context.thread_count = 1
        rate = float(stream.average_rate or 25)
        for index, frame in enumerate(container.decode(stream)):
            facts: dict[str, Any] = {"seconds": index / rate if frame.time is None else frame.time}
            pixels = b""
            if asked["drawn"] or index % asked["every"] == 0:
                # Phones store videos sideways, with a rotation in the metadata.
                upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation % 360 // 90)
                facts["size"], pixels = upright.shape[1::-1], upright.tobytes()
            yield facts, pixels
        yield {"ended": True}, b""


def main() -> None:
    """Decode one video."""
    source, answers = begin()

    def requests() -> Iterator[dict[str, Any]]:
        while message := receive(source):
            limit(message[0]["memory"], message[0]["seconds"])
            yield message[0]

    if not (first := receive(source)):
        return
    try:
        limit(first[0]["memory"], first[0]["seconds"])
        for facts, pixels in frames_of(first[1], requests()):
            send(answers, facts, pixels)
    except MemoryError:
        send(answers, {"error": "memory"}, b"")
    except (av.error.FFmpegError, ValueError, StopIteration):
        send(answers, {"error": "damaged"}, b"")


if __name__ == "__main__":
    main()
