from pathlib import Path

import pytest

from serving.vision import variants
from serving.vision.variants import int8_instructions, suits


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("", []),
        ("processor\t: 0\nflags\t\t: fpu sse4_2 avx2 avx512f\n", []),
        ("processor\t: 0\nflags\t\t: avx2 avx512_vnni avx_vnni amx_int8 amx_tile\n", None),
        ("flags\t\t: avx_vnni\n\nprocessor\t: 1\nflags\t\t: avx2\n", ["avx_vnni"]),
        ("model name\t: a vnni machine\nFeatures\t: fp asimd asimddp\n", []),  # an ARM CPU
    ],
)
def test_instructions_are_those_of_the_flags(
    cpuinfo: str, expected: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(variants, "CPUINFO", tmp_path / "cpuinfo")
    assert int8_instructions() == (["amx_int8", "avx512_vnni", "avx_vnni"] if expected is None else expected)


def test_no_instructions_are_known_when_the_system_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "CPUINFO", tmp_path / "missing")
    assert int8_instructions() == []


@pytest.mark.parametrize(
    ("kind", "here", "gpu", "expected"),
    [
        ("int8", [], False, False),
        ("int8", ["amx_int8"], False, False),  # not one of those that were measured
        ("int8", ["amx_int8", "avx_vnni"], False, True),
        ("int8", ["avx_vnni"], True, False),
        ("fp16", ["avx_vnni"], False, False),
        ("fp16", [], True, True),
        ("int4", ["avx_vnni"], False, False),  # of a later Flywheel
    ],
)
def test_a_variant_suits_the_hardware_that_it_needs(kind: str, here: list[str], gpu: bool, expected: bool) -> None:
    suitable, reason = suits(kind, ["avx512_vnni", "avx_vnni"], here, gpu=gpu)
    assert suitable == expected and kind in (reason if kind != "fp16" or not gpu else kind)
