"""The folder of an exported policy, written atomically and verified when read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium import spaces

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.archive import read_file
from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.manifest import MANIFEST, opened, sealed
from liquid_control.deploy import Metadata, OnnxPolicy
from liquid_control.deploy.c_policy import COMPILERS
from liquid_control.deploy.metadata import Rounding
from liquid_control.export.agreement import (
    STEPS,
    Agreement,
    Exported,
    act,
    agreement,
    errors_of,
    record,
    run,
    tolerance_of,
)
from liquid_control.export.description import Description, ExportError
from liquid_control.export.facts import metadata_of
from liquid_control.export.in_c import C_HEADER, C_SOURCE, compiled, compiled_sources
from liquid_control.export.policies import describe_policy
from liquid_control.export.quantization import quantized, without_scales
from liquid_control.export.to_c import to_c
from liquid_control.policies.stateful import StatefulPolicy

FORMAT, VERSION = "exported policy", 1
FACTS, ONNX = "policy.json", "policy.onnx"
PAGES = ("certificate.md", "certificate.png")
FILES = {"onnx": (ONNX,), "c": (C_SOURCE, C_HEADER)}
"""Names of the files of each format."""


def export_policy(
    policy: StatefulPolicy,
    folder: Path,
    formats: Sequence[str] = ("onnx", "c"),
    pages: Mapping[str, bytes] = MappingProxyType({}),
    weights: str = "float32",
    **facts: Any,
) -> dict[str, Agreement]:
    """Write a policy to a new folder, after comparing each file with the policy.

    Args:
        policy: a LiquidPolicy or a SoftLiquidPolicy.
        folder: to be created.
        formats: "onnx", "c" or both.
        pages: contents of `PAGES` to add.
        weights: "float32", or "int8" or "int4" to round them in C; ONNX then has the rounded ones
            as floats, with the same results.
        **facts: for `metadata_of`, such as `task`.

    Returns:
        the agreement of each format with the policy; without a C compiler, "c" is missing.

    Raises:
        ExportError: a part of the policy cannot be exported, or a file does not agree with it.
        FileExistsError: the folder exists.
        ImportError: onnx or onnxruntime is missing, and needed.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    files, metadata = build_files(policy, formats, weights, **facts)
    try:
        agreements = check_files(files, policy, metadata)
    except ExportError:
        raise
    except ValueError as error:
        raise ExportError(f"nothing is written, since the policy does not act: {error}") from error
    files |= pages
    for name, compared in agreements.items():
        if not compared.holds:
            raise ExportError(
                f"nothing is written: policy in {name} differs from the policy by "
                f"{compared.error:.3g} of the actions' range; {compared.tolerance:g} is accepted"
            )
    with replacing(folder) as partial:
        partial.mkdir()
        for name, content in sealed(files, FORMAT, VERSION, task=metadata.task).items():
            (partial / name).write_bytes(content)
    return agreements


def build_files(
    policy: StatefulPolicy, formats: Sequence[str], weights: str = "float32", **facts: Any
) -> tuple[dict[str, bytes], Metadata]:
    """Return the files of an export by name, and the facts that they carry."""
    description = described(policy, weights)
    metadata = metadata_of(description, **facts)
    return files_of(description, metadata, formats), metadata


def described(policy: StatefulPolicy, weights: str) -> Description:
    """Return the description of a policy with this kind of weights."""
    description = describe_policy(policy)
    return description if weights == "float32" else quantized(description, weights)


def files_of(
    description: Description, metadata: Metadata, formats: Sequence[str]
) -> dict[str, bytes]:
    """Return the files of an export by name, given its facts."""
    files = {FACTS: metadata.to_json().encode()}
    if "onnx" in formats:
        from liquid_control.export.to_onnx import to_onnx  # onnx is an extra

        files[ONNX] = to_onnx(description, metadata).SerializeToString(deterministic=True)
    if "c" in formats:
        (low, high), nominal = metadata.trained_interval, metadata.nominal_interval
        lines = [
            f"task       {metadata.task}" if metadata.task else "",
            f"neurons    {metadata.neurons}, {description.states['x']} of them",
            f"intervals  {low:g} to {high:g} s in training; nominal: {nominal:g} s",
            f"recipe     {metadata.recipe_sha256}" if metadata.recipe_sha256 else "",
            *_cost(metadata.rounding),
            *_named("observed", metadata.observation[0]),
            *_named("action", metadata.action),
        ]
        sources = to_c(description, [line for line in lines if line], metadata.trained_interval)
        files[C_SOURCE], files[C_HEADER] = sources.source.encode(), sources.header.encode()
    return files


def _named(title: str, signal: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines with the names and units of numbers, where known."""
    names = signal.get("element_names", [])
    units = signal.get("units", [""] * len(names))
    texts = [f"{name} ({unit})" if unit else name for name, unit in zip(names, units, strict=True)]
    if texts:
        yield from wrap(f"{title:11}{', '.join(texts)}", 96, subsequent_indent=" " * 11)


def _cost(rounding: Rounding | None) -> Iterator[str]:
    """Yield lines with the effects of rounding weights."""
    if rounding is None:
        return
    yield (
        f"rounding   moves actions by at most {rounding['error']:.2g} of their range, and by "
        f"{rounding['mean_error']:.2g} on average"
    )
    if "return" in rounding and "float_return" in rounding:
        yield (
            f"           mean return {rounding['return']:.4g}; with weights in single precision "
            f"{rounding['float_return']:.4g}"
        )


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of an export, after checking their hashes.

    Raises:
        CheckpointError: a file was altered or is missing, or the folder is not an export.
    """
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder} holds no exported policy; it has no {MANIFEST}")
    names = {name for names in FILES.values() for name in names} | {FACTS, MANIFEST, *PAGES}
    found = {path.name: read_file(path) for path in folder.iterdir() if path.name in names}
    try:
        files = opened(found, FORMAT, VERSION)[1]
        formats = [names for names in FILES.values() if files.keys() & {*names}]
        needed = {FACTS}.union(*formats or FILES.values())
        if missing := needed - files.keys():
            raise CheckpointError(f"{min(missing)} is missing; export the policy again")
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    return files


def check_files(
    files: Mapping[str, bytes], policy: StatefulPolicy, metadata: Metadata, steps: int = STEPS
) -> dict[str, Agreement]:
    """Compare each format with the policy over a recording of some steps.

    Rounded weights are compared with the policy that has the same rounded weights.
    """
    moments, space = record(policy, metadata, steps), policy.action_space
    acted = expected = np.stack([*act(policy, moments)])
    rounding = 0.0
    has_compiler = any(map(shutil.which, COMPILERS))
    found: dict[str, Agreement] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if metadata.weights != "float32":
            expected = run(_rounded(policy, metadata, folder), moments)
            rounding = float(errors_of(space, acted, expected).max())
        if ONNX in files:
            exported: Exported = OnnxPolicy(files[ONNX])
            if exported.metadata != metadata:
                raise ValueError(f"{ONNX} and {FACTS} have different facts")
            found["onnx"] = agreement(space, expected, run(exported, moments), rounding)
        if C_SOURCE in files and has_compiler:
            place = folder / "c"
            place.mkdir()
            exported = compiled_sources(files[C_SOURCE], files[C_HEADER], place, metadata)
            found["c"] = agreement(space, expected, run(exported, moments), rounding)
    if isinstance(space, spaces.Box) and not all(each.holds for each in found.values()):
        tolerance = tolerance_of(policy, moments, acted)
        found = {name: replace(each, tolerance=tolerance) for name, each in found.items()}
    return found


def _rounded(policy: StatefulPolicy, metadata: Metadata, folder: Path) -> Exported:
    """Return the policy with the same rounded weights as floats, by its description."""
    description = without_scales(quantized(describe_policy(policy), metadata.weights))
    if any(map(shutil.which, COMPILERS)):
        return compiled(description, folder)
    from liquid_control.export.to_onnx import to_onnx  # onnx is an extra

    return OnnxPolicy(to_onnx(description, metadata).SerializeToString())
