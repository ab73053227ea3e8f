"""What others write to shrink a folder of pictures; each is run beside ours by benchmarks/prepare.py.

`python -m benchmarks.prepare_peers NAME IMAGES OUT WIDTH QUALITY PROCESSES`, with NAME one of:

opencv  imread, resize with INTER_AREA, imwrite, in one process, as the workshop's script does
vips    libvips' own thumbnail, which uses JPEG's downscaling, in several processes
"""

import multiprocessing
import sys
from functools import partial
from pathlib import Path


def opencv(path: Path, *, out: Path, width: int, quality: int) -> None:
    """Shrink one picture with OpenCV."""
    import cv2

    picture = cv2.imread(str(path))
    assert picture is not None
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(out / path.name), small, [cv2.IMWRITE_JPEG_QUALITY, quality])


def vips(path: Path, *, out: Path, width: int, quality: int) -> None:
    """Shrink one picture with libvips."""
    import pyvips

    small = pyvips.Image.thumbnail(str(path), width, height=10_000_000)
    small.write_to_file(str(out / path.name), Q=quality, subsample_mode="on")  # 4:2:0, like the others


if __name__ == "__main__":
    name, images, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    width, quality, processes = map(int, sys.argv[4:])
    paths = sorted(images.iterdir())
    if name == "opencv":
        for path in paths:
            opencv(path, out=out, width=width, quality=quality)
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.map(partial(vips, out=out, width=width, quality=quality), paths, chunksize=4)
