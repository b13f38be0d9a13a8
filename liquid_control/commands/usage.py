"""Examples of every command, which its `--help` and the reference show."""

from __future__ import annotations

EXAMPLES = {
    "train": (
        "liquid-control train half_cheetah/ncp_ppo",
        "liquid-control train my_recipe.yaml --seed 1 --set agent.n_epochs=5 policy.neurons=ltc",
        "liquid-control train half_cheetah/ncp_ppo --init RUN",
    ),
    "sweep": (
        "liquid-control sweep hopper/ncp_ppo hopper/lstm_ppo --seeds 0-4",
        "liquid-control sweep search.yaml --trials 50 --on ray",
    ),
    "report": (
        "liquid-control report runs/STUDY",
        "liquid-control report runs/STUDY --threshold Hopper-v5=1000 --output report",
    ),
    "resume": (
        "liquid-control resume RUN",
        "liquid-control resume RUN --set agent.total_timesteps=2e6",
    ),
    "evaluate": (
        "liquid-control evaluate RUN",
        "liquid-control evaluate RUN --episodes 50 --ratios 0.5 1 2",
        "liquid-control evaluate half_cheetah/ncp_ppo",
    ),
    "record": (
        "liquid-control record RUN",
        "liquid-control record RUN --seconds 5 --ratio 2",
    ),
    "inspect": (
        "liquid-control inspect RUN",
        "liquid-control inspect RUN --lesion-episodes 0",
    ),
    "watch": (
        "liquid-control watch RUN",
        "liquid-control watch RUN --ratio 2",
    ),
    "pack": (
        "liquid-control pack RUN --output policy.zip",
        "liquid-control pack RUN --push OWNER/NAME",
    ),
    "unpack": (
        "liquid-control unpack policy.zip --output runs/unpacked/0",
        "liquid-control unpack hub:OWNER/NAME",
    ),
    "recipes": (
        "liquid-control recipes",
        "liquid-control recipes half_cheetah/ncp_ppo > my_recipe.yaml",
    ),
    "new": ("liquid-control new my_robot",),
    "export": (
        "liquid-control export RUN --output exported",
        "liquid-control export RUN --format c --episodes 0",
    ),
    "verify": ("liquid-control verify exported --against RUN",),
    "replay": (
        "liquid-control replay robot.mcap RUN",
        "liquid-control replay robot.mcap RUN --lesions all --seconds 20",
    ),
    "doctor": (
        "liquid-control doctor",
        "liquid-control doctor half_cheetah/ncp_ppo",
    ),
}
