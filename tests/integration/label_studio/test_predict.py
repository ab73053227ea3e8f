"""The most doubtful pictures of a bucket become tasks, each once, with the boxes of the model."""

import pytest
from PIL import Image

from runner.__main__ import main
from runner.label_studio.setup import set_up
from tests.support.annotating import Bench
from tests.support.pictures import encoded
from tests.support.trained import seeing


def shade(brightness: int, side: int = 64) -> bytes:
    return encoded(Image.new("RGB", (side, side), (brightness,) * 3), "PNG")


def test_the_most_doubtful_pictures_of_a_bucket_become_tasks(
    bucket_bench: Bench, minio: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """The helicopter's confidence is 0.1 and the brightness, its threshold 0.25."""
    bench, name = bucket_bench, bucket_bench.store.uri.removeprefix("s3://")
    for key, data in {
        "cam/sure.png": shade(200),
        "cam/near.png": shade(40),  # 0.257
        "cam/nearer below.png": shade(38),  # 0.249
        "cam/far.png": shade(60),  # 0.335
        "cam/bad.png": b"",
    }.items():
        minio.put(name, key, data)  # type: ignore[attr-defined]
    (bench.project / "model.onnx").write_bytes(seeing())
    set_up(bench.project)
    command = ["predict", f"s3://{name}/cam", "--to", "out.csv", "--model", "model.onnx", "--review", "2"]
    assert main(command) == 0
    assert "3 doubtful pictures: 2 new tasks" in capsys.readouterr().out
    tasks = {task["data"]["name"]: task for task in bench.tasks()}
    assert tasks.keys() == {"near.png", "nearer below.png"}
    near, below = tasks["near.png"], tasks["nearer below.png"]
    assert near["data"]["image"] == f"s3://{name}/cam/near.png"  # no copy: Label Studio reads the store's bucket
    assert below["data"]["image"].startswith(f"s3://{name}/datasets/")  # a key of other letters than the store's
    for task in tasks.values():
        (prediction,) = task["predictions"]
        assert [each["value"]["rectanglelabels"] for each in prediction["result"]] == [["airplane"], ["helicopter"]]
    assert main(command) == 0
    assert "1 new tasks, 2 have a task already" in capsys.readouterr().out
    assert {task["data"]["name"] for task in bench.tasks()} == {*tasks, "far.png"}
