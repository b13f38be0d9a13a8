"""Fast statistics: what the tests state holds for any number of replications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from liquid_control.sweeps import statistics


@pytest.fixture(autouse=True, scope="module")
def few_replications() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as context:
        context.setattr(statistics, "REPLICATIONS", 60)
        yield
