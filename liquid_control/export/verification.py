"""Verification of an exported policy, by its facts, its code, its weights and its actions.

Nothing that a stranger may have written runs before its code is known to be what this version
writes for the policy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liquid_control.checkpoints import CheckpointError
from liquid_control.deploy import Metadata
from liquid_control.export.agreement import Agreement
from liquid_control.export.facts import metadata_of, signals_in
from liquid_control.export.folder import (
    FACTS,
    FILES,
    ONNX,
    check_files,
    described,
    files_of,
    read_files,
)
from liquid_control.export.in_c import C_HEADER, C_SOURCE
from liquid_control.export.policies import describe_policy
from liquid_control.policies.stateful import StatefulPolicy

HASHES = {"policy_sha256", "recipe_sha256"}
STATED = {"certificate", "rounding", "versions", "weights"}
"""Facts that do not follow from the policy and its run."""

TABLE = re.compile(
    rb"(static const (?:(?:float|int8_t) \w+|uint8_t \w+_weights(?:_\d+)?)(?:\[\d+\])+ = \{)"
    rb"([-+.\de{},\sf]*)\};"
)
"""A table of weights in C: its type, name and shape, and its content."""

NUMBER = re.compile(rb"[-+.\de]+")
CLOSE = 1e-5
"""Accepted difference of weights, which other machines round differently."""


class Content(NamedTuple):
    """A format of an export.

    Attributes:
        code: all but the weights.
        weights: the tables of weights, in order; to be read after the code was compared.
    """

    code: bytes
    weights: Iterator[NDArray[Any]]


def verify_folder(
    folder: Path, policy: StatefulPolicy, *, trust: bool = False, **facts: Any
) -> dict[str, Agreement]:
    """Check the files of an export against their hashes, and against the policy.

    Facts, code and weights must be those that `export_policy` writes for the policy, but for a
    certificate and the cost of rounding, which are not measured again. Then each format acts on a
    recording, as the policy does. Other weights are reported by what they do there.

    Args:
        folder: of the export.
        policy: that it should be of.
        trust: run the files even if their code or weights are not those that this version writes.
        **facts: what `export_policy` was given; those that are missing are not checked.

    Returns:
        the agreement of each format with the policy; without a C compiler, "c" is missing.

    Raises:
        CheckpointError: a file was altered or is missing, or has the facts, the code or the weights
            of another policy.
        ImportError: onnx or onnxruntime is missing, and needed.
    """
    files = read_files(folder)
    try:
        metadata = Metadata.from_json(files[FACTS])
        different = different_facts(metadata, policy, facts)
        if found := different - HASHES:
            raise CheckpointError(f"it is not of this policy: {FACTS} has another {min(found)}")
        other = [] if trust else other_weights(files, policy, metadata)
        agreements = check_files(files, policy, metadata)
        if all(each.holds for each in agreements.values()) and (different or other):
            what = f"{FACTS} has another {min(different)}" if different else "; ".join(other)
            raise CheckpointError(f"it is not of this policy, although it acts like it: {what}")
    except (ValueError, RuntimeError) as error:  # CheckpointError is a ValueError
        raise CheckpointError(f"{folder}: {error}") from error
    return agreements


def different_facts(
    metadata: Metadata, policy: StatefulPolicy, facts: Mapping[str, Any]
) -> set[str]:
    """Return the names of the facts that an export of the policy would not have."""
    given = {
        "task": metadata.task,
        "trained_interval": metadata.trained_interval,
        "recipe_sha256": metadata.recipe_sha256,
        "signals": signals_in(metadata),
        **facts,
    }
    stated = {name: getattr(metadata, name) for name in STATED}
    expected = replace(metadata_of(describe_policy(policy), **given), **stated)
    written, right = (json.loads(each.to_json()) for each in (metadata, expected))
    return {name for name, value in right.items() if value != written[name]}


def other_weights(
    files: Mapping[str, bytes], policy: StatefulPolicy, metadata: Metadata
) -> list[str]:
    """Return a line for each format whose weights are not the policy's.

    Raises:
        CheckpointError: a format has other code than this version writes.
    """
    found = []
    formats = [name for name, names in FILES.items() if names[0] in files]
    right = files_of(described(policy, metadata.weights), metadata, formats)
    for name in formats:
        theirs, ours = (CONTENTS[name](each) for each in (files, right))
        if theirs.code != ours.code:
            raise CheckpointError(
                f"not of this policy: {name}, whose code is not what this version writes for it; "
                "if you trust its author, give trust (--trust) to run and compare it"
            )
        if not all(map(_are_close, theirs.weights, ours.weights)):
            found.append(f"{FILES[name][0]} has other weights")
    return found


def content_of_c(files: Mapping[str, bytes]) -> Content:
    """Return the content of policy.c and policy.h."""
    source = files[C_SOURCE]
    code = TABLE.sub(rb"\1};", source) + files[C_HEADER]
    return Content(
        code, (np.array(NUMBER.findall(table[2]), float) for table in TABLE.finditer(source))
    )


def content_of_onnx(files: Mapping[str, bytes]) -> Content:
    """Return the content of policy.onnx."""
    import onnx  # an extra

    try:
        model, whole = (onnx.load_from_string(files[ONNX]) for _ in range(2))
    except Exception as error:  # protobuf's errors have no other base
        raise CheckpointError(f"{ONNX} cannot be read; export it again") from error
    for each in model.graph.initializer:
        each.ClearField("raw_data")
    return Content(
        model.SerializeToString(deterministic=True),
        map(onnx.numpy_helper.to_array, whole.graph.initializer),
    )


CONTENTS = {"onnx": content_of_onnx, "c": content_of_c}


def _are_close(theirs: NDArray[Any], ours: NDArray[Any]) -> bool:
    if ours.dtype.kind != "f":
        return np.array_equal(theirs, ours)
    return theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=CLOSE, atol=0.1 * CLOSE)
