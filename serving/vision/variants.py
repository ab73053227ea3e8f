"""Variants of a model: a smaller form in a file of its own, and the hardware that it needs.

INT8 is for CPUs that add products of bytes in 32 bits (VNNI, AMX). Others add in 16 bits, which may saturate (ONNX
Runtime's documentation, Quantize ONNX models): the gate has measured neither loss nor time there.
"""

import re
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT8, FP16 = "float", "int8", "fp16"
CPUINFO = Path("/proc/cpuinfo")
_INT8 = re.compile(r"\w*vnni\w*|amx_int8")


def variant_file(kind: str) -> str:
    """Return the name of a variant's file, such as model.int8.onnx; that of the float model is model.onnx."""
    return "model.onnx" if kind == FLOAT else f"model.{kind}.onnx"


def int8_instructions() -> list[str]:
    """Return this CPU's instructions for INT8 by Linux's names, such as avx512_vnni, sorted; empty where unknown."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return []
    return sorted({flag for flag in flags[1].split() if _INT8.fullmatch(flag)}) if flags else []


def suits(kind: str, measured: Sequence[str], here: Sequence[str], *, gpu: bool) -> tuple[bool, str]:
    """Return whether a variant suits a machine, and why.

    `measured` are the instructions of the CPU on which the gate judged INT8, `here` those of the machine.
    """
    if kind == FP16:
        return gpu, "this machine has a GPU" if gpu else "fp16 is for GPUs, and this machine has none"
    if kind != INT8:
        return False, f"this version of Flywheel knows no variant {kind}"
    if gpu:
        return False, "int8 is for CPUs, and this machine has a GPU"
    if common := [each for each in here if each in measured]:
        return True, f"the gate measured int8 with {', '.join(measured)}, and this CPU has {', '.join(common)}"
    return False, f"the gate measured int8 with {' or '.join(measured) or 'nothing'}, and this CPU has not"
