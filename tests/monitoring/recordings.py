"""Synthetic recordings for tests of figures, films and reports."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from liquid_control.monitoring.recording import Recording, Simulation
from liquid_control.wiring import auto_ncp

TIMESTEP = 0.01  # seconds of physics; an interval is a whole number of them
NOMINAL = 5  # steps of physics in the nominal interval


def synthetic(
    neurons: int = 64,
    actions: int = 6,
    steps: int = 400,
    *,
    observations: int = 17,
    simulated: bool = False,
    constant: bool = False,
    seed: int = 0,
) -> Recording:
    """An episode at intervals of 20 to 100 ms, in which everything swings, each thing at its rate.

    Sensory neurons follow the observations, other neurons one observation each, and an action
    follows its motor neuron where there is one. With `constant` nothing ever moves.
    """
    random = np.random.default_rng(seed)
    substeps = random.integers(2, 11, steps)
    elapsed = np.concatenate([[NOMINAL], substeps[:-1]]) * TIMESTEP
    times = np.concatenate([[0], np.cumsum(substeps)]) * TIMESTEP
    wiring = auto_ncp(observations, neurons, min(actions, neurons - 2), seed=seed)

    observed = _swings(times[:-1], observations, 0.3, random)
    inputs = observed[:, np.arange(neurons) % observations]
    activity = np.tanh(1.5 * inputs + 0.3 * _swings(times[:-1], neurons, 2.0, random))
    taken = np.tanh(activity[:, -1 - np.arange(actions) % wiring.motor_count])
    if constant:
        observed, activity, taken = (
            np.zeros_like(observed),
            np.ones_like(activity),
            np.ones_like(taken),
        )
    scale = np.exp(np.linspace(np.log(0.02), np.log(2.0), neurons))
    return Recording(
        times=times,
        elapsed_time=elapsed,
        observations=observed.astype(np.float32),
        actions=taken.astype(np.float32),
        rewards=substeps * TIMESTEP * (1 - (taken**2).mean(axis=1)),
        sensory=(1.2 * observed).astype(np.float32),
        activity=activity.astype(np.float32),
        time_constants=(scale * (1 + 0.2 * np.abs(activity))).astype(np.float32),
        wiring=wiring,
        observation_names=tuple(f"joint {index}" for index in range(observations)),
        action_names=tuple(f"motor {index}" for index in range(actions)),
        simulation=_simulate(taken, substeps) if simulated else None,
    )


def _swings(
    times: NDArray[np.float64], count: int, rate: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """(T, count) sines of `rate` to four times `rate` Hz, at random phases."""
    rates = rate * random.uniform(1, 4, count)
    return np.sin(2 * np.pi * (rates * times[:, None] + random.uniform(0, 1, count)))


def _simulate(actions: NDArray[np.float64], substeps: NDArray[np.int64]) -> Simulation:
    """A snake on a plane, as many joints as actions, moved by them."""
    count = actions.shape[1]
    links = "".join(
        f'<body pos="{0.2 if index else 0} 0 0"><geom type="capsule" fromto="0 0 0 .2 0 0" '
        f'size=".04"/><joint name="joint {index}" axis="0 0 1" damping=".1" range="-60 60"/>'
        for index in range(count)
    )
    motors = "".join(f'<motor joint="joint {index}" ctrlrange="-1 1"/>' for index in range(count))
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option timestep="{TIMESTEP}" integrator="implicitfast"/><worldbody>'
        '<camera name="track" mode="trackcom" pos="0 -3 2" xyaxes="1 0 0 0 .55 .83"/>'
        '<light pos="0 0 4"/><geom type="plane" size="40 40 1"/><body pos="0 0 .1">'
        '<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
        f'<geom type="sphere" size=".1"/>{links}{"</body>" * count}</body></worldbody>'
        f"<actuator>{motors}</actuator></mujoco>"
    )
    data = mujoco.MjData(model)
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    states = np.empty((len(actions) + 1, mujoco.mj_stateSize(model, kind)))
    for step, (action, count) in enumerate(zip(actions, substeps, strict=True)):
        mujoco.mj_getState(model, data, states[step], kind)
        data.ctrl[:] = action
        mujoco.mj_step(model, data, int(count))
    mujoco.mj_getState(model, data, states[-1], kind)
    return Simulation(model, states, actions.copy())
