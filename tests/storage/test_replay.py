"""The sequence replay against a list of episodes, filled with values that name their place."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from liquid_control.checkpoints import CheckpointError
from liquid_control.collectors.transitions import Transitions
from liquid_control.storage.replay import SequenceReplay, Sequences

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (2,))
ACTIONS = spaces.Box(-1.0, 1.0, (1,))


@dataclass
class Episode:
    """What a list of episodes remembers: one label for each observation, one of each ending."""

    env: int
    labels: list[float] = field(default_factory=list)
    ending: str = ""  # "t" or "c" once its last observation was terminal


class Recorder:
    """Feeds a replay with scripted episodes, and keeps them all in lists.

    Each observation has a label of its own; all columns, and the state, are functions of it.
    """

    def __init__(self, replay: SequenceReplay) -> None:
        self.replay = replay
        self.count = 0
        self.episodes: list[Episode] = []
        self.under_way = [Episode(env) for env in range(replay.n_envs)]
        self.starts = [True] * replay.n_envs

    def label(self) -> float:
        self.count += 1
        return float(self.count)

    def step(self, endings: list[str]) -> None:
        """One step of all environments: on (""), terminated, cut, or about to be reset."""
        for env in np.flatnonzero(self.starts):
            self.episodes.append(Episode(env))
            self.under_way[env] = self.episodes[-1]
        for episode in self.under_way:
            episode.labels.append(self.label())
        labels = torch.tensor([episode.labels[-1] for episode in self.under_way])
        ended = np.array([ending in ("t", "c") for ending in endings])
        final = None
        if ended.any():
            last = []
            for env in np.flatnonzero(ended):
                episode = self.under_way[env]
                episode.labels.append(self.label())
                episode.ending = endings[env]
                last.append(episode.labels[-1])
            final = seen(torch.tensor(last))
        step = Transitions(
            *seen(labels),
            episode_start=torch.tensor(self.starts),
            actions=labels[:, None] + 0.25,
            rewards=labels + 0.5,
            ended=torch.tensor(ended),
            seconds=torch.full_like(labels, torch.nan),
        )
        terminated = torch.tensor([float(ending == "t") for ending in endings])
        self.replay.add(state_at(labels), step, labels / 2, terminated, final)
        self.starts = [ending != "" for ending in endings]

    def windows(self) -> dict[float, tuple[Episode, int, int]]:
        """Every window so far by its first label: episode, place of the first step, length."""
        length, found = self.replay.sequence_length, {}
        for episode in self.episodes:
            closed = episode.ending != "" or episode is not self.under_way[episode.env]
            for first in range(0, len(episode.labels) - 1, length):
                steps = min(length, len(episode.labels) - 1 - first)
                if steps == length or closed:
                    found[episode.labels[first]] = (episode, first, steps)
        return found


def seen(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and elapsed time."""
    return torch.stack([labels, -labels], 1), labels / 1024


def state_at(labels: torch.Tensor) -> torch.Tensor:
    return torch.stack([labels, 2 * labels, 3 * labels], 1)


def everything(replay: SequenceReplay) -> Sequences:
    return replay._gather(np.arange(len(replay)))


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Labels are small whole numbers, from which all columns follow without rounding."""
    assert torch.equal(found, expected), (found, expected)


def check_window(
    replay: SequenceReplay, found: Sequences, index: int, episode: Episode, first: int, steps: int
) -> None:
    """One sampled window is what the list of episodes has at that place."""
    labels = torch.tensor(episode.labels)
    burn_in, length = replay.burn_in, replay.sequence_length
    before = min(first, burn_in)
    assert before in (0, burn_in)
    place = slice(burn_in - before, burn_in + steps + 1)
    part = labels[first - before : first + steps + 1]
    assert_same(found.features[place, index, :2], seen(part)[0])
    for at, remembered in enumerate(found.features[place, index, 2:], first - before):
        expected = []
        for lag in replay.history.lags:
            label = episode.labels[max(at - lag, 0)]
            expected += [label, -label, label + 0.25 if at >= lag else 0.0]
        assert_same(remembered, torch.tensor(expected))
    assert_same(found.elapsed_time[place, index], part / 1024)
    starts = torch.zeros(len(part))
    starts[: 1 if first == before else 0] = 1
    assert_same(found.episode_start[place, index], starts)
    past = labels[max(first - before - 1, 0) : first + steps] + 0.25
    assert_same(found.previous_actions[place, index, 0][-len(past) :], past)
    if first:
        assert_same(found.state[index], state_at(part[:1])[0])
    own = labels[first : first + steps]
    assert_same(found.mask[:, index], (torch.arange(length) < steps).float())
    assert_same(found.actions[:steps, index, 0], own + 0.25)
    assert_same(found.rewards[:steps, index], own + 0.5)
    is_over = first + steps == len(labels) - 1 and episode.ending != ""
    terminated = torch.zeros(steps)
    terminated[-1] = is_over and episode.ending == "t"
    assert_same(found.terminated[:steps, index], terminated)
    following = own[-1:] if is_over else labels[first + steps :][:1]
    assert_same(found.duration[: steps + 1, index], torch.cat([own, following]) / 2)


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, Any], list[list[str]]]:
    length = draw(st.integers(1, 5))
    sizes = {
        "sequence_length": length,
        "burn_in": draw(st.integers(0, length)),
        "n_envs": draw(st.integers(1, 3)),
    }
    lags = draw(st.lists(st.integers(1, 6), max_size=3, unique=True))
    rarely = draw(st.integers(1, 30))
    ending = st.sampled_from(["t", "c", "r", *[""] * rarely])
    steps = st.lists(ending, min_size=sizes["n_envs"], max_size=sizes["n_envs"])
    sizes["spans"] = draw(st.integers(5, 9)) + max(lags, default=0)
    return {**sizes, "critic_history": lags}, draw(st.lists(steps, min_size=1, max_size=120))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_it_holds_the_latest_windows_of_a_list_of_episodes(
    history: tuple[dict[str, Any], list[list[str]]],
) -> None:
    sizes, steps = history
    size = sizes.pop("spans") * sizes["sequence_length"] * sizes["n_envs"]
    replay = SequenceReplay(size, OBSERVATIONS, ACTIONS, **sizes)
    recorder = Recorder(replay)
    memory = None
    for endings in steps:
        recorder.step(endings)
        found = everything(replay) if len(replay) else None
        if memory is None and found is not None:
            memory = replay._slots.data_ptr(), replay._states.data_ptr()
        if found is None:
            continue
        written = recorder.windows()
        sampled = [label.item() for label in found.features[replay.burn_in, :, 0]]
        assert len(set(sampled)) == len(sampled)
        for index, label in enumerate(sampled):
            check_window(replay, found, index, *written[label])
        # All of them, but for the oldest of each environment.
        for env in range(replay.n_envs):
            own = [label for label, (episode, *_) in written.items() if episode.env == env]
            kept = [label for label in sampled if written[label][0].env == env]
            assert sorted(kept) == sorted(own)[len(own) - len(kept) :]
            slots = replay._position[env]
            needed = replay.sequence_length + replay.burn_in + replay.history.span
            if slots <= replay.rows - needed:
                assert len(kept) == len(own)
            elif slots > 3 * replay.sequence_length:
                assert kept or not own
    if memory is not None:
        assert memory == (replay._slots.data_ptr(), replay._states.data_ptr())


def filled(steps: int = 200, **options: int) -> tuple[SequenceReplay, Recorder]:
    options = {"n_envs": 2, "sequence_length": 4, "burn_in": 2} | options
    replay = SequenceReplay(160, OBSERVATIONS, ACTIONS, **options)
    recorder = Recorder(replay)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        recorder.step([str(rng.choice(["t", "c", *[""] * 9])) for _ in range(options["n_envs"])])
    return replay, recorder


def test_an_episode_longer_than_the_ring_is_sampled_as_it_goes_on() -> None:
    replay = SequenceReplay(20, OBSERVATIONS, ACTIONS, sequence_length=4, burn_in=2)
    recorder = Recorder(replay)
    for step in range(1, 100):
        recorder.step([""])
        if step > 4:
            newest = everything(replay).features[2, -1, 0].item()
            assert step - newest in range(4, 8)  # at most a window is not complete yet
            assert len(replay) >= min((step - 1) // 4, 2)


def test_windows_are_drawn_alike_often() -> None:
    replay, _ = filled()
    torch.manual_seed(0)
    drawn = replay.sample(20_000).features[replay.burn_in, :, 0]
    _, counts = drawn.unique(return_counts=True)
    assert len(counts) == len(replay)
    expected = 20_000 / len(replay)
    assert (counts - expected).abs().max() < 5 * expected**0.5


def test_drawing_is_seeded() -> None:
    replay, _ = filled()

    def drawn(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return replay.sample(8).rewards[0].tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_saved_and_loaded_it_is_the_same_and_goes_on() -> None:
    replay, recorder = filled()
    file = io.BytesIO()
    replay.save(file)
    file.seek(0)
    loaded = SequenceReplay(160, OBSERVATIONS, ACTIONS, n_envs=2, sequence_length=4, burn_in=2)
    loaded.load(file, 3)
    again = Recorder(loaded)
    again.count, again.starts = recorder.count, list(recorder.starts)
    for one in (recorder, again):
        one.step(["", "t"])
    ours, theirs = everything(loaded), everything(replay)
    for name in Sequences.__dataclass_fields__:
        assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=0)


def test_images_take_a_byte_for_each_pixel_and_come_back_to_the_bit() -> None:
    """Features are vectors, images, and privileged ones, as policies split them."""
    space = spaces.Dict(
        {
            "eye": spaces.Box(0, 255, (1, 2, 3), np.uint8),
            "joints": spaces.Box(-1.0, 1.0, (2,)),
            "privileged": spaces.Box(-1.0, 1.0, (1,)),
        }
    )

    def make() -> SequenceReplay:
        return SequenceReplay(80, space, ACTIONS, n_envs=2, sequence_length=4, burn_in=0)

    replay = make()
    pixels = torch.randint(256, (80, 2, 6), dtype=torch.uint8)
    pixels[:16].flatten()[: 2 * 86] = torch.arange(2 * 86) % 256
    vectors, privileged = torch.randn(80, 2, 2), torch.randn(80, 2, 1)
    features = torch.cat([vectors, pixels.float() / 255, privileged], dim=-1)
    zeros, never = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
    for step in range(30):
        ended = torch.tensor([step % 7 == 6, False])
        taken = Transitions(
            features=features[step],
            elapsed_time=zeros + 1,
            episode_start=never,
            actions=zeros[:, None],
            rewards=zeros,
            ended=ended,
            seconds=zeros,
        )
        final = (features[step + 40, :1], zeros[:1]) if ended.any() else None
        replay.add(torch.zeros(2, 3), taken, zeros, zeros, final)
    assert replay._pixels.dtype == torch.uint8
    file = io.BytesIO()
    replay.save(file)
    file.seek(0)
    loaded = make()
    loaded.load(file, 3)
    found = everything(loaded)
    rows = {tuple(row.tolist()) for row in features.flatten(0, 1)}
    windows = found.features[:-1][found.mask.bool()]
    assert len(windows) > 40
    assert all(tuple(row.tolist()) in rows for row in windows)
    assert torch.equal(found.features, everything(replay).features)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(1, 1, 6), "pixels of the replay has type float32"),
        (torch.full((1, 1, 6), 256, dtype=torch.uint16), "out of range; expected 0 to 255"),
    ],
)
def test_pixels_that_are_no_bytes_are_refused(pixels: torch.Tensor, message: str) -> None:
    space = spaces.Box(0, 255, (1, 2, 3), np.uint8)
    replay = SequenceReplay(40, space, ACTIONS, sequence_length=4, burn_in=0)
    state = replay.state_dict() | {"pixels": pixels}
    with pytest.raises(CheckpointError, match=message):
        replay.load_state_dict(state, 3)


def test_it_warns_if_it_will_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liquid_control.storage.replay.memory_of_machine", lambda: 1e6)
    space = spaces.Box(0, 255, (3, 64, 64), np.uint8)
    with pytest.warns(UserWarning, match=r"takes up to 1.2 GB .* has 0.0 GB; lower buffer_size"):
        SequenceReplay(100_000, space, ACTIONS, sequence_length=4, burn_in=0)


def test_a_replay_of_another_shape_is_not_loaded() -> None:
    file = io.BytesIO()
    filled()[0].save(file)
    file.seek(0)
    other = SequenceReplay(160, OBSERVATIONS, ACTIONS, n_envs=2, sequence_length=4, burn_in=1)
    with pytest.raises(ValueError, match=r"got \[4, 2, 80, 2, 8, 3\], expected \[4, 1,"):
        other.load(file, 3)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "another archive", "an array"])
def test_a_damaged_replay_is_reported_and_changes_nothing(damage: str) -> None:
    replay, _ = filled()
    whole, other = io.BytesIO(), io.BytesIO()
    replay.save(whole)
    if damage == "another archive":
        np.savez(other, slots=np.zeros(3))
    elif damage == "an array":
        np.save(other, np.zeros(3))
    content = bytearray((other if other.tell() else whole).getvalue())
    if damage == "flipped":
        content[len(content) // 4] ^= 1  # among the slots
    kept = {"cut": len(content) // 2, "emptied": 0}.get(damage)
    before = everything(replay)
    with pytest.raises(ValueError, match=r"not hold a complete replay .*; load what save_replay"):
        replay.load(io.BytesIO(content[:kept]), 3)
    for name in Sequences.__dataclass_fields__:
        assert_close(getattr(everything(replay), name), getattr(before, name), rtol=0, atol=0)


def test_nothing_to_sample_is_reported() -> None:
    replay = SequenceReplay(160, OBSERVATIONS, ACTIONS, sequence_length=4, burn_in=2)
    with pytest.raises(ValueError, match="collect at least 5 steps"):
        replay.sample(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 0}, "sequence_length must be at least one"),
        ({"burn_in": 9}, "at most sequence_length = 8, got 9"),
        ({"burn_in": -1}, "burn_in must be at least 0"),
        ({"n_envs": 5}, "at least 5 sequences of 8 steps for each of 5 environments, 200 in all"),
        ({"optimize_memory_usage": True}, "leave it False"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceReplay(
            160, OBSERVATIONS, ACTIONS, **({"sequence_length": 8, "burn_in": 4} | options)
        )  # type: ignore[arg-type]
