from pathlib import Path

from runner.label_studio.agreement import GOLDEN, OTHERS, agreement
from runner.label_studio.import_pictures import import_pictures
from runner.label_studio.server import connected
from runner.label_studio.setup import set_up
from tests.support.annotating import AIRPLANE, HELICOPTER, Bench, labelled, pictures


def test_what_two_people_drew_is_compared(bench: Bench, tmp_path: Path) -> None:
    set_up(bench.project)
    second = bench.label_studio.join("second@example.com")
    golden = labelled(tmp_path / "golden", {"0000.jpg": "0 0.5 0.5 0.25 0.25\n"})
    import_pictures(str(golden), project=bench.project)
    import_pictures(str(pictures(tmp_path / "new", 2)), project=bench.project)
    known, both, alone = bench.tasks()
    bench.draw(known["id"], AIRPLANE, HELICOPTER, person=second)
    bench.draw(both["id"], AIRPLANE)
    bench.draw(both["id"], HELICOPTER, person=second)
    bench.draw(alone["id"], AIRPLANE)
    with connected() as server:
        _, *rows = agreement(server.project(bench.title)).rows
    assert [row[:7] for row in rows] == [
        ("annotator@example.com", OTHERS, "1", "airplane", "1", "0", "0"),
        ("annotator@example.com", OTHERS, "1", "helicopter", "0", "1", "0"),
        ("second@example.com", GOLDEN, "1", "airplane", "1", "1", "1"),
        ("second@example.com", GOLDEN, "1", "helicopter", "1", "0", "0"),
        ("second@example.com", OTHERS, "1", "airplane", "0", "1", "0"),
        ("second@example.com", OTHERS, "1", "helicopter", "1", "0", "0"),
    ]
