"""The policy that the page on browsers carries runs, and its scripts can be read."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from liquid_control import envs
from liquid_control.deploy import OnnxPolicy

FOLDER = Path(__file__).parents[2] / "docs/assets/browser"


def test_the_cheetah_of_the_page_runs() -> None:
    pytest.importorskip("onnxruntime", reason="the extra `deploy` is not installed")
    text = (FOLDER / "cheetah.js").read_text()
    assert len(text) < 300_000
    content = json.loads(text[text.index("{") : text.rindex("}") + 1])
    policy = OnnxPolicy(base64.b64decode(content["onnx"]))
    assert sum(content["layers"].values()) == policy.metadata.state_size
    assert content["interval"] == policy.metadata.nominal_interval
    robot = envs.make(content["task"], observe="positions")
    seen, _ = robot.reset(seed=0)
    start = robot.unwrapped.data.qpos[0]
    for _ in range(60):
        # As in run.js: the elapsed time of the first step is the nominal one.
        seen, *_ = robot.step(policy.step(seen["observation"], float(seen["elapsed_time"][0])))
    assert robot.unwrapped.data.qpos[0] - start > 3  # metres in 3 s
    np.testing.assert_allclose(seen["observation"], robot.unwrapped.data.qpos[1:])


def test_the_page_loads_packages_of_fixed_versions_when_it_is_asked_to() -> None:
    script = (FOLDER / "run.js").read_text()
    assert len(re.findall(r'"@\d+\.\d+\.\d+"', script)) == 2
    page = (FOLDER.parents[1] / "browser.md").read_text()
    assert re.findall(r'<script src="(.*?)">', page) == [
        "assets/browser/cheetah.js",
        "assets/browser/run.js",
    ]
    ids = set(re.findall(r'find\("([\w-]+)"\)', script)) | {"cheetah-robot", "cheetah-neurons"}
    assert ids == set(re.findall(r'id="([\w-]+)"', page))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_scripts_have_no_error_of_syntax(tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "browser.md").read_text()
    (tmp_path / "page.mjs").write_text(page.split("```js\n")[1].split("```")[0])
    for path in (FOLDER / "cheetah.js", FOLDER / "run.js", tmp_path / "page.mjs"):
        subprocess.run(["node", "--check", path], check=True)
