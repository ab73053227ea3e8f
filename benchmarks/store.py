"""How fast the store on S3 is, beside the bare minio client that moves the same bytes to and from the same MinIO.

`python -m benchmarks store` needs MinIO (`make minio`). Server and client share the machine. The prefix is also fetched
over a line with a delay, since without one the processors alone set the pace: the client's one, and the server's.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio

from benchmarks.rounds import FOLDER, PROJECT, in_turn, table
from runner.dataset.prefix import fetch_uri
from runner.release.contents import Release
from runner.release.publish import publish
from runner.store import open_store
from runner.store.init import init_store
from runner.workspace import sha256_of
from serving.storage.endpoint import endpoint_of_environment
from serving.storage.manifest import Manifest
from serving.storage.objects import read
from tests.support.processes import free_port
from tests.support.s3 import S3, serving_s3

MODELS = {"yolo11n": (10_500_000, 5_500_000), "yolo11m": (80_400_000, 40_700_000)}  # bytes of .onnx and .pt
SMALL = {"config.yaml": 2_000, "params.yaml": 1_500, "dvc.lock": 5_000, "report.json": 60_000, "metrics.json": 3_000}
PICTURE = 60_000  # bytes
DELAY_SECONDS = 0.001  # per direction


def write(path: Path, size: int, seed: int) -> Path:
    """Write a file of random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def release(model: str, folder: Path) -> Release:
    """Return a release with the sizes of a real one, and bytes that were never published before."""
    onnx, weights = (
        write(folder / name, size, random.randrange(1 << 30))
        for name, size in zip(("model.onnx", "best.pt"), MODELS[model], strict=True)
    )
    files = {name: write(folder / name, size, random.randrange(1 << 30)) for name, size in SMALL.items()}
    manifest = Manifest(name=model, version=0, onnx_sha256=sha256_of(onnx), classes=["a"], imgsz=640)
    return Release(onnx, files | {"best.pt": weights}, manifest, {"weights": str(random.random())})


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours_publishes(model: str, folder: Path) -> float:
    """Publish; return the seconds without the generation of the bytes."""
    made = release(model, folder)
    return timed(partial(publish, open_store(PROJECT), made))


def bare_puts(model: str, folder: Path, client: Minio, bucket: str) -> float:
    """Put the same files one after the other, and nothing else."""
    made = release(model, folder)
    key = f"bare/{random.randrange(1 << 60)}"

    def put() -> None:
        for name, path in {**made.files, "model.onnx": made.onnx}.items():
            client.fput_object(bucket, f"{key}/{name}", str(path))

    return timed(put)


def fresh(folder: Path) -> Path:
    """Return an empty folder of this name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def models(server: S3, bucket: str, folder: Path, rounds: int) -> None:
    """Measure publishing and fetching of models."""
    client = server.client()
    for model in MODELS:
        onnx, weights = MODELS[model]
        megabytes = (onnx + weights + sum(SMALL.values())) / 1e6
        seconds = in_turn(
            {
                "`publish`": partial(ours_publishes, model, fresh(folder / "release")),
                "minio client: the files alone": partial(bare_puts, model, folder / "release", client, bucket),
            },
            rounds,
        )
        print(table(f"publish {model}, {megabytes:.0f} MB", seconds))
        store = open_store(PROJECT)
        made = release(model, folder / "release")
        store.put_file(f"models/{model}/9/model.onnx", made.onnx)
        key, sha256 = f"models/{model}/9/model.onnx", made.manifest.onnx_sha256
        target = folder / "fetched"
        endpoint = endpoint_of_environment()

        def into(work: Callable[[], object], target: Path = target) -> float:
            target.unlink(missing_ok=True)
            return timed(work)

        seconds = in_turn(
            {
                "store.fetch, digest checked": partial(into, partial(store.fetch, key, target, sha256)),
                "minio client: fget_object": partial(into, partial(bare_fetch, client, bucket, key, target)),
                "minio client: fget_object, then sha256": partial(
                    into, partial(bare_fetch, client, bucket, key, target, digest=True)
                ),
            },
            rounds,
        )
        print(table(f"fetch {model}, {onnx / 1e6:.0f} MB", seconds))
        seconds = in_turn(
            {
                "the server's read": partial(timed, partial(read, f"s3://{bucket}/{key}", endpoint)),
                "minio client: get_object": partial(timed, partial(bare_read, client, bucket, key)),
            },
            rounds,
        )
        print(table(f"read {model}, {onnx / 1e6:.0f} MB, to memory", seconds))


def bare_fetch(client: Minio, bucket: str, key: str, target: Path, *, digest: bool = False) -> None:
    """Download an object into a file, and hash it if asked."""
    client.fget_object(bucket, key, str(target))
    if digest:
        sha256_of(target)


def bare_read(client: Minio, bucket: str, key: str) -> bytes:
    """Read an object into memory."""
    with contextlib.closing(client.get_object(bucket, key)) as response:
        return bytes(response.read())


def prefix(server: S3, bucket: str, folder: Path, pictures: int, rounds: int, line: str) -> None:
    """Measure the download of a prefix of pictures; the environment has the endpoint."""
    url = os.environ["AWS_ENDPOINT_URL"]
    client = Minio(urlsplit(url).netloc, server.user, server.password, secure=False)

    def ours() -> float:
        return timed(partial(fetch_uri, f"s3://{bucket}/pictures/", fresh(folder / "many")))

    def one_at_a_time() -> float:
        target = fresh(folder / "one")

        def get() -> None:
            for item in client.list_objects(bucket, "pictures/", recursive=True):
                client.fget_object(bucket, item.object_name, str(target / item.object_name))

        return timed(get)

    seconds = in_turn({"`dataset add`'s fetch": ours, "minio client: one at a time": one_at_a_time}, rounds)
    print(table(f"{pictures} pictures of {PICTURE // 1000} kB, {line}", seconds, amount=pictures, of="pictures"))
    assert len(list((folder / "many").rglob("*.jpg"))) == len(list((folder / "one").rglob("*.jpg"))) == pictures


async def delay(port: int, target: int) -> None:
    """Forward the traffic of a port with a delay in each direction."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, waiting = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def send() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0, due - loop.time()))
                writer.write(data)
                if not data:
                    return writer.close()

        sending = asyncio.create_task(send())
        while data := await reader.read(1 << 20):
            waiting.put_nowait((loop.time() + DELAY_SECONDS, data))
        waiting.put_nowait((loop.time(), b""))
        await sending

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", target)
        with contextlib.suppress(OSError):
            await asyncio.gather(hand_on(reader, outer), hand_on(inner, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", port) as server:
        print("ready", flush=True)
        await server.serve_forever()


@contextlib.contextmanager
def delayed(server: S3) -> Iterator[str]:
    """Run a proxy with a delay in its own process until the block ends; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.store", "--delay", json.dumps([port, server.port])]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--only", choices=["models", "prefix"])
    parser.add_argument("--delay", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.delay:
        asyncio.run(delay(*json.loads(options.delay)))
        return
    folder = fresh(FOLDER / "store")
    with serving_s3("minio", folder / "minio") as server:
        environment = server.environment("flywheel")
        os.environ |= environment
        init_store(PROJECT)
        if options.only != "prefix":
            models(server, "flywheel", folder, options.rounds)
        if options.only != "models":
            picture, client = random.Random(0).randbytes(PICTURE), server.client()
            with ThreadPoolExecutor(8) as pool:
                for number in range(options.pictures):
                    name = f"pictures/images/{number:05}.jpg"
                    pool.submit(client.put_object, "flywheel", name, io.BytesIO(picture), PICTURE)
            rounds = max(1, options.rounds // 2)
            prefix(server, "flywheel", folder, options.pictures, rounds, "on loopback")
            with delayed(server) as url:
                os.environ["AWS_ENDPOINT_URL"] = url
                line = f"over a line of {2 * DELAY_SECONDS * 1000:.0f} ms there and back"
                prefix(server, "flywheel", folder, options.pictures, rounds, line)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
