"""The folder of an exported policy: written whole or not at all, and checked when it is read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.archive import read_file
from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.manifest import MANIFEST, opened, sealed
from liquid_control.deploy import CPolicy, Metadata, OnnxPolicy, compile_c
from liquid_control.export.agreement import STEPS, Agreement, Exported, compare, record
from liquid_control.export.description import ExportError
from liquid_control.export.facts import metadata_of
from liquid_control.export.policies import describe_policy
from liquid_control.export.to_c import to_c
from liquid_control.policies.stateful import StatefulPolicy

FORMAT, VERSION = "exported policy", 1
FACTS, ONNX, C_SOURCE, C_HEADER = "policy.json", "policy.onnx", "policy.c", "policy.h"
PAGES = ("certificate.md", "certificate.png")
FILES = {"onnx": (ONNX,), "c": (C_SOURCE, C_HEADER)}
"""Names of the files of each format."""


def export_policy(
    policy: StatefulPolicy,
    folder: Path,
    formats: Sequence[str] = ("onnx", "c"),
    pages: Mapping[str, bytes] = MappingProxyType({}),
    **facts: Any,
) -> dict[str, Agreement]:
    """Write a policy to a new folder, after comparing each file with the policy.

    Args:
        policy: a LiquidPolicy or a SoftLiquidPolicy.
        folder: to be created.
        formats: "onnx", "c" or both.
        pages: contents of `PAGES` to put beside them.
        **facts: for `metadata_of`, such as `task`.

    Returns:
        how well each format agrees with the policy; without a C compiler, "c" is missing.

    Raises:
        ExportError: a part of the policy cannot be exported, or a file does not agree with it.
        FileExistsError: the folder exists.
        ImportError: onnx or onnxruntime is missing, and needed.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    files, metadata = build_files(policy, formats, **facts)
    agreements = check_files(files, policy, metadata)
    files |= pages
    for name, agreement in agreements.items():
        if not agreement.holds:
            raise ExportError(
                f"nothing is written: policy in {name} differs from the policy by "
                f"{agreement.error:.3g} of the actions' range; {agreement.tolerance:g} is accepted"
            )
    with replacing(folder) as partial:
        partial.mkdir()
        for name, content in sealed(files, FORMAT, VERSION, task=metadata.task).items():
            (partial / name).write_bytes(content)
    return agreements


def build_files(
    policy: StatefulPolicy, formats: Sequence[str], **facts: Any
) -> tuple[dict[str, bytes], Metadata]:
    """Return the files of an export by name, and the facts that they carry."""
    description = describe_policy(policy)
    metadata = metadata_of(description, **facts)
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
        ]
        sources = to_c(description, [line for line in lines if line])
        files[C_SOURCE], files[C_HEADER] = sources.source.encode(), sources.header.encode()
    return files, metadata


def verify_folder(folder: Path, policy: StatefulPolicy) -> dict[str, Agreement]:
    """Check the files of an export against their hashes, and against the policy.

    Returns:
        how well each format agrees with the policy; without a C compiler, "c" is missing.

    Raises:
        CheckpointError: a file was altered, or is missing.
    """
    files = read_files(folder)
    return check_files(files, policy, read_facts(files))


def read_facts(files: Mapping[str, bytes]) -> Metadata:
    """Return the facts in the files of an export."""
    return Metadata.from_json(files[FACTS].decode())


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of an export, after checking their hashes.

    Raises:
        CheckpointError: a file was altered or is missing, or the folder holds something else.
    """
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder} holds no exported policy; it has no {MANIFEST}")
    names = {name for names in FILES.values() for name in names} | {FACTS, MANIFEST, *PAGES}
    found = {path.name: read_file(path) for path in folder.iterdir() if path.name in names}
    try:
        return opened(found, FORMAT, VERSION)[1]
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def check_files(
    files: Mapping[str, bytes], policy: StatefulPolicy, metadata: Metadata, steps: int = STEPS
) -> dict[str, Agreement]:
    """Compare each format with the policy over a recording of some steps."""
    moments = record(policy, metadata, steps)
    found: dict[str, Agreement] = {}
    if ONNX in files:
        found["onnx"] = compare(policy, OnnxPolicy(files[ONNX]), moments)
    if C_SOURCE in files and any(map(shutil.which, ("cc", "gcc", "clang"))):
        with TemporaryDirectory() as temporary:
            compiled: Exported = _compiled(files, Path(temporary), metadata)
            found["c"] = compare(policy, compiled, moments)
    return found


def _compiled(files: Mapping[str, bytes], folder: Path, metadata: Metadata) -> CPolicy:
    for name in (C_SOURCE, C_HEADER):
        (folder / name).write_bytes(files[name])
    return CPolicy(compile_c(folder / C_SOURCE, folder / "policy.so"), metadata)
