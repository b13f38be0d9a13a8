"""JSON in one form only: the same value is always the same bytes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from liquid_control.checkpoints.errors import CheckpointError


def dumps(value: Any) -> bytes:
    """Write a value, with sorted keys.

    Raises:
        ValueError, TypeError: it is not JSON-able, or not finite.
    """
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()


def loads(text: bytes) -> Any:
    """Read a value.

    Raises:
        CheckpointError: the text is no JSON, holds what is not finite, or repeats a key.
    """
    try:
        return json.loads(
            text.decode(), parse_constant=_no_constant, object_pairs_hook=_without_repetition
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it holds JSON that cannot be read: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
