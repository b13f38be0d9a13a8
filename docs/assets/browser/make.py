"""Writes cheetah.js, the robot and the policy of the page `browser.md`.

    python docs/assets/browser/make.py DIR

DIR is what `liquid-control export` wrote for a run of HalfCheetah-v5 with `observe: positions`. The
page can be opened as a file, from which browsers fetch nothing, so that the policy is text in a
script.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

import gymnasium

HERE = Path(__file__).parent
MODEL = Path(gymnasium.__file__).parent / "envs/mujoco/assets/half_cheetah.xml"  # MIT License


def main(folder: Path) -> None:
    """Write the script."""
    facts = json.loads((folder / "policy.json").read_text())
    layers: dict[str, int] = {}
    for name in facts["neuron_names"]:
        layer = name.rpartition("_")[0]
        layers[layer] = layers.get(layer, 0) + 1
    xml = re.sub(r"<!--.*?-->", "", MODEL.read_text(), flags=re.DOTALL)
    content = {
        "task": facts["task"],
        "interval": facts["nominal_interval"],
        "neurons": facts["neurons"],
        "layers": layers,
        "actions": facts["action"]["element_names"],
        "xml": re.sub(r"\s+", " ", xml).strip(),
        "onnx": base64.b64encode((folder / "policy.onnx").read_bytes()).decode(),
    }
    text = json.dumps(content, indent=1)
    (HERE / "cheetah.js").write_text(f"/* Written by make.py. */\nconst CHEETAH = {text};\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
