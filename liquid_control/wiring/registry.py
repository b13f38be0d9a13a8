"""Wirings from data: the name of a kind and its arguments, as in recipes and saved runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from liquid_control.wiring.layered import auto_ncp, ncp
from liquid_control.wiring.single_layer import dense, sparse_random
from liquid_control.wiring.wiring import Wiring
from liquid_control.wiring.worm import tap_withdrawal


def explicit(wiring: Mapping[str, Any]) -> Wiring:
    """Return the wiring that `Wiring.to_dict` describes."""
    return Wiring.from_dict(wiring)


KINDS: Mapping[str, Callable[..., Wiring]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (ncp, auto_ncp, dense, sparse_random, tap_withdrawal, explicit)
    }
)


def make_wiring(
    spec: Mapping[str, Any], *, sensory: int | None = None, motor: int | None = None
) -> Wiring:
    """Build a wiring from `spec`, such as {"kind": "auto_ncp", "neurons": 64}.

    `spec` has the name of one of `KINDS` and its arguments. `sensory` and `motor` are used if the
    kind takes these arguments and `spec` does not have them; a kind of fixed size ignores them.

    Raises ValueError for an unknown kind or key and for a missing key, with a list of the known
    ones, and the errors of the kind itself.
    """
    arguments = fill_wiring(spec, sensory=sensory, motor=motor)
    name = arguments.pop("kind")
    _check_arguments(name, arguments, inspect.signature(KINDS[name]).parameters)
    return KINDS[name](**arguments)


def fill_wiring(
    spec: Mapping[str, Any], *, sensory: int | None = None, motor: int | None = None
) -> dict[str, Any]:
    """Return `spec` with `sensory` and `motor` filled in where missing, as in `make_wiring`.

    Raises TypeError if it is not a mapping, and ValueError for an unknown kind.
    """
    if not isinstance(spec, Mapping):
        raise TypeError(
            'a wiring is a dict of its kind and arguments, such as {"kind": "auto_ncp", '
            f'"neurons": 64}}, got {spec!r}'
        )
    if "kind" not in spec:
        raise ValueError(f"a wiring needs a kind, one of {_list(KINDS)}; got {dict(spec)}")
    name = spec["kind"]
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"unknown kind of wiring {name!r}; choose one of {_list(KINDS)}")
    parameters = inspect.signature(KINDS[name]).parameters
    offered = {"sensory": sensory, "motor": motor}
    return {
        key: value for key, value in offered.items() if value is not None and key in parameters
    } | dict(spec)


def _check_arguments(
    kind: str, arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    if unknown := arguments.keys() - parameters.keys():
        raise ValueError(
            f"unknown {_list(map(repr, sorted(unknown)))} in a wiring of kind {kind!r}, "
            f"which takes {_list(parameters) or 'no arguments'}"
        )
    required = {key for key, value in parameters.items() if value.default is value.empty}
    if missing := required - arguments.keys():
        raise ValueError(
            f"a wiring of kind {kind!r} also needs {_list(sorted(missing))}; "
            f"got {_list(arguments) or 'nothing'}"
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
