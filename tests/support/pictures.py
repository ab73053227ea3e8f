import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runner.config.schema import PARTS, PrepareConfig
from runner.dataset.check import make_row, read_facts
from runner.dataset.entries import read_entries
from runner.dataset.index import Index
from runner.dataset.labels import decode_lines
from runner.dataset.picture_cache import cache_folder, keep_bytes
from runner.stages.prepare.pictures import Bring, Prepared, prepare_pictures
from runner.stages.prepare.prepare import Classes, prepare
from runner.workspace import sha256_of

BOX = "0 0.5 0.5 0.5 0.5\n"

SETTINGS = PrepareConfig(
    max_width=None,
    jpeg_quality=95,
    max_pixels=2_000_000,
    max_rejected=0.05,
    max_clipped=0.1,
    duplicates="refuse",
    min_pictures=1,
    min_per_class=0,
)


def settings(**changes: Any) -> PrepareConfig:
    return PrepareConfig.model_validate(SETTINGS.model_dump() | changes)


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (columns + rows) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """A picture 40 wide and 30 high as a person sees it, stored as a camera held otherwise stores it."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = gradient() if orientation == 1 else gradient().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, quality=95, subsampling=0, exif=exif)


def bring_from(folder: Path, work: Path) -> Bring:
    """What brings the pictures of a folder into the cache, as `fetch` does those of a dataset."""

    def bring(sizes: Mapping[str, int]) -> Path:
        files = {sha256_of(file): file for file in folder.iterdir()}
        for sha256 in sizes:
            keep_bytes(files[sha256].read_bytes(), work)
        return cache_folder(work)

    return bring


class Shelf:
    """A folder of pictures, and what is kept of them."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "ein Ordner für Bilder"
        self.work = folder / "work"
        self.kept = self.work / "prepare"
        self.source.mkdir()

    def put(self, name: str, data: bytes) -> Path:
        (self.source / name).write_bytes(data)
        return self.source / name

    def prepare(self, rules: PrepareConfig = SETTINGS) -> dict[str, Prepared | str]:
        digests = {path: sha256_of(path) for path in sorted(self.source.iterdir())}
        sizes = {sha256: path.stat().st_size for path, sha256 in digests.items()}
        prepared = prepare_pictures(sizes, rules, self.work, bring_from(self.source, self.work))
        return {path.name: prepared[sha256] for path, sha256 in digests.items()}

    def one(self, data: bytes, name: str = "a.jpg", rules: PrepareConfig = SETTINGS) -> Prepared:
        self.put(name, data)
        prepared = self.prepare(rules)[name]
        assert isinstance(prepared, Prepared), prepared
        return prepared

    def refused(self, data: bytes, rules: PrepareConfig = SETTINGS) -> str:
        self.put("a.jpg", data)
        reason = self.prepare(rules)["a.jpg"]
        assert isinstance(reason, str)
        return reason

    def image(self, prepared: Prepared) -> Image.Image:
        return Image.open(self.file(prepared))

    def file(self, prepared: Prepared) -> Path:
        """The encoded picture in the cache."""
        assert prepared.encoded is not None
        return cache_folder(self.work) / str(prepared.encoded[0])


def index_of_folder(raw: Path) -> Index:
    """The index of a folder with classes.txt, images/, labels/ and perhaps lists of parts; labels as they are."""
    parts = {
        line: part
        for part in PARTS
        if (raw / f"{part}.txt").exists()
        for line in (raw / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    }
    index = Index((raw / "classes.txt").read_text(encoding="utf-8").splitlines(), {}, [])
    images = list((raw / "images").iterdir())
    for image, facts in zip(images, read_facts(images), strict=True):
        file = raw / "labels" / f"{image.stem}.txt"
        labels = "\n".join(decode_lines(file.read_bytes(), "replace")) if file.exists() else ""
        index.rows.append(make_row(image.name, facts, parts.get(f"images/{image.name}"), labels))
    return index


class RawDataset:
    """A dataset in a folder, and what `prepare` makes of its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ein Ordner für ü"
        self.raw = self.folder / "raw"
        (self.raw / "images").mkdir(parents=True)
        (self.raw / "labels").mkdir()
        self.runs = 0
        self.classes("airplane", "helicopter")

    def classes(self, *names: str) -> None:
        (self.raw / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def put(self, name: str, labels: str | bytes | None = BOX, data: bytes | None = None) -> None:
        size = 20 + len(list((self.raw / "images").iterdir()))
        (self.raw / "images" / name).write_bytes(encoded(gradient(size, 30)) if data is None else data)
        if labels is not None:
            content = labels.encode() if isinstance(labels, str) else labels
            (self.raw / "labels" / f"{Path(name).stem}.txt").write_bytes(content)

    def prepare(self, classes: Classes | None = None, **changes: Any) -> str:
        self.runs += 1
        self.out = self.folder / f"out {self.runs}"
        dataset, report = self.out / "dataset", self.out / "report"
        for folder in (dataset, report):
            folder.mkdir(parents=True)
        index, bring = index_of_folder(self.raw), bring_from(self.raw / "images", self.work)
        return prepare(index, classes or [], settings(**changes), dataset, report, work=self.work, bring=bring)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def index(self) -> list[dict[str, Any]]:
        return read_entries(self.out / "dataset")

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / "report/report.json").read_text(encoding="utf-8"))
        return content

    @property
    def left_out(self) -> dict[str, str]:
        return {item["file"]: item["reason"] for item in self.report["left_out"]}

    def labels(self, stem: str) -> str:
        (found,) = (str(each["labels"]) for each in self.index if Path(each["source"]).stem == stem)
        return found

    def contents(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.out)): path.read_bytes() for path in self.out.rglob("*") if path.is_file()}
