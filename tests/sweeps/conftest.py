"""Fast statistics: the laws hold for any number of replications."""

from __future__ import annotations

import pytest

from liquid_control.sweeps import statistics


@pytest.fixture(autouse=True)
def few_replications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "REPLICATIONS", 60)
