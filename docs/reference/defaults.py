"""Shows the defaults of arguments that are written as `PPOOptions.gamma` as their values.

`mkdocs.yml` names this module as an extension of griffe, which reads the signatures.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

from liquid_control.agents import options as of_agents
from liquid_control.policies import options as of_policies

OPTION = re.compile(r"(\w+Options)\.(\w+)")


class Defaults(griffe.Extension):
    """Replaces the defaults of functions as they are read."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace the defaults of one function."""
        for parameter in func.parameters:
            written = OPTION.fullmatch(str(parameter.default))
            if written is None:
                continue
            owner, name = written.groups()
            options = getattr(of_agents, owner, None) or getattr(of_policies, owner)
            parameter.default = repr(getattr(options, name))
