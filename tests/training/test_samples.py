"""What a run shows: sounds and pictures of held-out speech, a duration error, utilisation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.flop_counter import FlopCounterMode

from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import read
from voiceflow.config import VelocityConfig, load_group
from voiceflow.data.shards import Framed, open_prepared
from voiceflow.model_folder import build_velocity
from voiceflow.text.phones import PhoneTable
from voiceflow.training.flops import update_flops, weights_used
from voiceflow.training.samples import MOST_FRAMES, plans


def test_gap_and_sentence_are_whole_phones_of_a_bounded_piece() -> None:
    phones = PhoneTable.english()
    durations = np.full(90, 10)
    mel = np.random.default_rng(0).normal(-5, 2, (900, 8)).astype(np.float16)
    row = Framed("u", list(range(2, 92)), durations, mel)
    made = plans(row, FeatureSpec(n_mels=8), phones)
    (gap, whole), (sentence, _) = made["gap"], made["sentence"]
    assert len(whole) == MOST_FRAMES == sum(gap.durations)
    assert gap.gaps == ((200, 400),)
    assert gap.mask.nonzero().flatten().tolist() == list(range(200, 400))
    assert sentence.mask.all()
    assert not sentence.context.any()
    assert not gap.context[200:400].any()
    assert gap.context[:200].any()


def test_a_run_shows_what_it_can(run: Any, tmp_path: Path) -> None:
    made = run("velocity", tmp_path, "train.updates=4", "train.sample_every=2", "sample.steps=2",
               "train.peak_tflops=0.1")  # fmt: skip
    names = {p.name for p in (made.folder / "samples").iterdir()}
    assert names == {
        f"{update:08d}-{name}.{kind}"
        for update in (2, 4) for name in ("gap", "sentence") for kind in ("wav", "png")
    }  # fmt: skip
    sound = read(made.folder / "samples" / "00000004-gap.wav")
    assert sound.samples.any()
    assert Image.open(made.folder / "samples" / "00000004-gap.png").width > 300
    [events] = (made.folder / "tensorboard").rglob("events*")
    log = EventAccumulator(str(events)).Reload()
    assert {"gap", "sentence"} <= set(log.Tags()["audio"])
    assert {"gap", "sentence"} <= set(log.Tags()["images"])
    logged = [x for x in made.log if "loss" in x]
    assert all(0 < x["flops_utilisation"] < 1 and 0 <= x["waiting_share"] < 1 for x in logged)


def test_durations_tell_their_error_in_frames(finished: Any, run: Any, tmp_path: Path) -> None:
    made = run("duration", tmp_path, "train.updates=10")
    [error] = [x["duration_error_frames"] for x in made.log if "validation_loss" in x]
    assert 0 < error < 10


@pytest.mark.parametrize("frames", [50, 400])
def test_operations_are_those_that_torch_counts(frames: int, prepared: Path) -> None:
    """Forward and backward of the matrix products, within 4 %.

    Torch counts convolutions too, and no attention on a CPU; we count the flow step's two layers
    for every token (3 % here).
    """
    data = open_prepared(prepared)
    config = replace(load_group(VelocityConfig, "model", "mini"), position_layers=0)
    network = build_velocity(config, data.phones, data.features)
    x = torch.randn(2, frames, data.features.n_mels)
    phones = torch.randint(2, 9, (2, frames))
    lengths = torch.full((2,), frames)
    with FlopCounterMode(display=False) as counter:
        network(x, x, phones, torch.rand(2), lengths).sum().backward()
    # The first layer's input needs no gradient: its product is not done backward.
    first = 2 * 2 * frames * 2 * data.features.n_mels * config.width
    attention = 3 * 4 * config.layers * config.width * 2 * (frames + 1) ** 2
    wanted = update_flops(weights_used(network), config, lengths + 1)
    assert wanted == pytest.approx(counter.get_total_flops() + first + attention, rel=0.04)
