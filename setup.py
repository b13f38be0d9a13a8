"""Compile the kernels, one extension module for each instruction set, all from the same headers,
and the function that batched environments run on each simulation.

`LIQUID_CONTROL_BUILD` says what to do about them: `optional` (the default) installs the package
without those that do not compile, `required` fails instead, `sanitize` is `required` with
AddressSanitizer and UndefinedBehaviorSanitizer, and `off` compiles none.
"""

import os
import sys
import sysconfig
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

SOURCES = Path("liquid_control/kernels/src")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# GCC 12 takes its own AVX-512 headers for careless, in thousands of lines.
# Without errno, loops over square roots become vectors.
OPTIMISED = ["-O3", "-ffp-contract=fast", "-fno-math-errno", "-pthread", "-Wno-uninitialized"]
SANITIZED = ["-O1", "-g1", "-fno-omit-frame-pointer", "-pthread", *SANITIZERS]
UNIX = {
    "plain": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx2", "-mfma"],
}
MSVC = {"plain": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]}


def extensions(build: str) -> list[Extension]:
    """The modules that this platform can have."""
    if build == "off":
        return []
    if build not in {"optional", "required", "sanitize"}:
        raise SystemExit(
            f"LIQUID_CONTROL_BUILD={build}: unknown; use optional, required, sanitize or off"
        )
    x86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
    if sys.platform == "win32":
        flags, general, link = MSVC, ["/O2"], []
    elif build == "sanitize":
        flags, general, link = UNIX, SANITIZED, ["-pthread", *SANITIZERS]
    else:
        flags, general, link = UNIX, OPTIMISED, ["-pthread"]
    kernels = [
        Pybind11Extension(
            f"liquid_control.kernels._{name}",
            [str(SOURCES / f"{name}.cpp")],
            depends=["setup.py", *sorted(map(str, SOURCES.glob("*.h")))],
            cxx_std=17,
            extra_compile_args=[*general, *flags[name]],
            extra_link_args=link,
            optional=build == "optional",
        )
        for name in (flags if x86 else ["plain"])
    ]
    hold = Extension(
        "liquid_control.envs._hold",
        ["liquid_control/envs/_hold.c"],
        extra_compile_args=general,
        extra_link_args=link,
        optional=build == "optional",
        py_limited_api=True,
    )
    return [*kernels, hold]


class BuildPython(build_py):
    """Also copies the recipes into the package; an editable one finds them in the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree("configs", str(Path(self.build_lib, "liquid_control", "configs")))


setup(
    ext_modules=extensions(os.environ.get("LIQUID_CONTROL_BUILD", "optional")),
    cmdclass={"build_ext": build_ext, "build_py": BuildPython},
    options={"build_ext": {"parallel": True}},
)
