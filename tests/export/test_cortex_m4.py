"""A policy in C on a Cortex-M4F, which QEMU emulates: the same bits as on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liquid_control.deploy.c_policy import compile_c
from liquid_control.export.policies import describe_policy

from . import cases, compilers

BOARD = Path(__file__).parent / "cortex_m4"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
STEPS = 50
NEURONS = ("cfc", "cfc, pure", "cfc, memory", "ltc", "ctrnn", "lrc", "lstm", "gru")

needs_arm = compilers.missing("arm-none-eabi-gcc")
needs_qemu = compilers.missing("qemu-system-arm")


def build(folder: Path) -> Path:
    """Compile a policy with its recording for the board."""
    flags = (*CPU, "-std=c99", *compilers.STRICT, "-O2", "-ffp-contract=off")
    compilers.run("arm-none-eabi-gcc", *flags, "-c", "policy.c", "-o", "policy.o", cwd=folder)
    compilers.run(
        "arm-none-eabi-gcc",
        *CPU,
        "-std=gnu99",
        "-O2",
        f"-I{folder}",
        BOARD / "main.c",
        "policy.o",
        f"-T{BOARD / 'mps2.ld'}",
        "-nostartfiles",
        "--specs=nano.specs",
        "--specs=nosys.specs",
        "-o",
        "policy.elf",
        cwd=folder,
    )
    return folder / "policy.elf"


def recorded(policy: Any) -> tuple[Any, Any]:
    """Return observations and elapsed times of a recording, in single precision."""
    recording = cases.record(policy, STEPS)
    observations = np.stack([cases.flat(observation) for observation, _, _ in recording])
    return observations.astype(np.float32), np.float32([elapsed for _, elapsed, _ in recording])


def table(name: str, values: Any) -> str:
    rows = values.view(np.uint32).reshape(len(values), -1)
    text = ",".join("{" + ",".join(f"{bits}u" for bits in row) + "}" for row in rows)
    return f"static const uint32_t {name}[{len(values)}][{rows.shape[1]}] = {{{text}}};\n"


@needs_arm
@needs_qemu
@compilers.HOST
@pytest.mark.parametrize(
    "name",
    [
        each if each in ("cfc", "ltc", "lstm") else pytest.param(each, marks=pytest.mark.slow)
        for each in NEURONS
    ],
)
def test_a_cortex_m4_computes_the_same_bits(name: str, tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[8], **cases.CIRCUITS[name])
    description = describe_policy(policy)
    compiled = compilers.compiled(description, tmp_path, "-O2", "-ffp-contract=off")
    observations, elapsed = recorded(policy)
    text = f"#define STEPS {STEPS}\n" + table("observations", observations)
    (tmp_path / "recording.h").write_text(text + table("elapsed_times", elapsed))
    program = build(tmp_path)
    printed = compilers.run(
        "qemu-system-arm",
        *("-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"),
        *("-chardev", "stdio,id=out", "-icount", "shift=0"),
        *("-semihosting-config", "enable=on,target=native,chardev=out"),
        *("-kernel", program),
        cwd=tmp_path,
    ).split()
    *bits, instructions = (int(word, 16) for word in printed)
    expected = [compiled.step(*each) for each in zip(observations, elapsed, strict=True)]
    assert bits == np.concatenate(expected).view(np.uint32).tolist()
    assert description.multiply_adds < instructions < 200 * description.multiply_adds


@needs_arm
def test_constants_lie_in_flash(tmp_path: Path) -> None:
    compilers.write(describe_policy(cases.make_policy(encoder=[8])), tmp_path)
    compilers.run("arm-none-eabi-gcc", *CPU, "-O2", "-c", "policy.c", "-o", "p.o", cwd=tmp_path)
    sections = compilers.run("arm-none-eabi-size", "-A", "p.o", cwd=tmp_path)
    sizes = dict(re.findall(r"^\.(data|bss|rodata)\S*\s+(\d+)", sections, re.MULTILINE))
    assert sizes.get("data", "0") == sizes.get("bss", "0") == "0"
    assert int(sizes["rodata"]) > 1000


FUNCTIONS = """
#include <math.h>
#include <stdio.h>
#include "policy.c"
static double ulps(float computed, double exact) {
    const int exponent = exact == 0 || fabs(exact) < 1.2e-38 ? -126 : ilogb(exact);
    return fabs((double)computed - exact) / ldexp(1.0, exponent - 23);
}
static void worst(double *most, double ulp) { *most = ulp > *most ? ulp : *most; }
int main(void) {
    double t = 0, s = 0, e = 0;
    for (uint64_t bits = 0; bits <= 0xffffffffu; bits += STRIDE) {
        const float x = from_bits((uint32_t)bits);
        if (!all_finite(&x, 1)) continue;
        worst(&t, ulps(tanh_of(x), tanh((double)x)));
        if (x > -87) worst(&s, ulps(sigmoid_of(x), 1 / (1 + exp(-(double)x))));
        if (x >= -87 && x <= 87) worst(&e, ulps(exp_of(x), exp((double)x)));
    }
    printf("%.4f %.4f %.4f", t, s, e);
    return 0;
}
"""


@compilers.HOST
def test_functions_keep_their_bounds(tmp_path: Path) -> None:
    """One float of 499; over all of them (STRIDE 1) the bounds are the same."""
    from liquid_control.export.c_functions import functions_text

    head = "#include <stdint.h>\n#include <string.h>\n"
    text = functions_text(["tanh_of", "sigmoid_of", "exp_of", "all_finite"])
    (tmp_path / "policy.c").write_text(head + text)
    (tmp_path / "functions.c").write_text(FUNCTIONS)
    flags = ("-std=c99", "-O2", "-DSTRIDE=499")
    compilers.run("gcc", *flags, "functions.c", "-lm", "-o", "functions", cwd=tmp_path)
    tanh, sigmoid, exp = map(float, compilers.run(tmp_path / "functions", cwd=tmp_path).split())
    assert 1 < tanh <= 2.7
    assert 1 < sigmoid <= 2.5
    assert 0.5 <= exp <= 1.1


def test_the_compiler_is_named_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "policy.c").write_text("int broken(")
    with pytest.raises(FileNotFoundError):
        compile_c(tmp_path / "policy.c", tmp_path / "policy.so", compiler="no-such-compiler")
