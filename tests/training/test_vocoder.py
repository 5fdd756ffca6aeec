"""The vocoder in the one training loop: on recordings, taken up again, on two processes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voiceflow.alignment.frames import FramedAlignment, FramedWord
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import Recording, write
from voiceflow.config import UserError, compose
from voiceflow.data.feed import example_maker
from voiceflow.data.manifest import Utterance, write_manifest
from voiceflow.data.shards import PreparedUtterance, open_prepared, write_shard
from voiceflow.data.waves import Waves
from voiceflow.files import write_json
from voiceflow.model_folder import ModelFolder, pack
from voiceflow.models.vocoder import Vocoder
from voiceflow.text.phones import PhoneTable
from voiceflow.training.loop import train
from voiceflow.vocoders.choice import named_vocoder

SPEC = FeatureSpec.named("voicebox16k")
RATE = SPEC.sample_rate
SETTINGS = ("vocoder=tiny", "train=vocoder", "train.updates=12", "train.batch_frames=120",
            "train.crop_frames=30", "train.validate_every=6", "train.checkpoint_every=6",
            "train.log_every=1", "train.warmup_updates=2",
            "train.validation_utterances=2")  # fmt: skip


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of 12 recordings of sines, some shorter than a crop, one at another rate."""
    folder = tmp_path_factory.mktemp("sounding")
    random = np.random.default_rng(0)
    rows, utterances = [], []
    for number in range(12):
        n = int(RATE * (0.2 if number == 3 else random.uniform(0.5, 1.2)))
        time = np.arange(n) / RATE
        wave = 0.3 * np.sin(2 * math.pi * random.uniform(150, 900) * time)
        path = folder / "wav" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        write(path, Recording.from_mono(wave.astype(np.float32), RATE))
        mel = LogMel(SPEC)(torch.from_numpy(wave).float()).numpy().astype(np.float16)
        utterance = Utterance(f"u-{number:02d}", str(path), "W", f"s{number % 3}", seconds=n / RATE)
        framed = FramedAlignment(("SIL", "AA_S"), (1, len(mel) - 1), (FramedWord("W", 1, 1),))
        rows.append(PreparedUtterance(utterance, n / RATE, mel, framed, None))
        utterances.append(utterance)
    write_shard(folder / "shards" / "00000.parquet", rows)
    write_manifest(folder / "manifest.jsonl", utterances)
    SPEC.save(folder / "features.json")
    PhoneTable.english().save(folder / "phones.json")
    frames = sum(len(r.mel) for r in rows)
    write_json(folder / "info.json", {
        "aligner": "none", "hours": frames / 360000, "frames": frames, "fingerprint": "sines",
    })  # fmt: skip
    return folder


def go(data: Path, out: Path, *more: str) -> Any:
    from tests.training.conftest import Run

    train(compose(["task=vocoder", f"data={data}", f"out={out}", *SETTINGS, *more]))
    return Run(out, "vocoder")


def test_an_example_is_the_sound_of_its_frames(sounding: Path) -> None:
    """The log-mel of the crop's wave is the crop's log-mel, away from its ends."""
    config = compose(["task=vocoder", f"data={sounding}", "out=x", *SETTINGS])
    data = open_prepared(sounding)
    make = example_maker(config, data, seed=5)
    starts = set()
    for epoch in range(4):
        example = make(epoch, data.framed(0))
        assert example.mel.shape == (30, 80)
        assert example.wave.shape == (29 * SPEC.hop,)
        found = SPEC.normalise(LogMel(SPEC)(example.wave))
        inner = slice(4, -4)
        assert float((found[inner] - example.mel[inner]).abs().mean()) < 0.02
        starts.add(float(example.mel[0].sum()))
    assert len(starts) > 1
    again = make(0, data.framed(0))
    assert torch.equal(again.wave, make(0, data.framed(0)).wave)


def test_what_is_shorter_than_a_crop_ends_in_silence(sounding: Path) -> None:
    config = compose(["task=vocoder", f"data={sounding}", "out=x", *SETTINGS])
    data = open_prepared(sounding)
    row = data.index.ids.index("u-03")
    example = example_maker(config, data, seed=0)(0, data.framed(row))
    assert len(example.mel) == 30
    assert torch.equal(example.wave[21 * SPEC.hop :], torch.zeros(8 * SPEC.hop))
    floor = SPEC.normalise(torch.tensor(math.log(SPEC.floor)))
    assert torch.allclose(example.mel[-1], floor)


@pytest.mark.parametrize(("discriminators", "updates"), [("0", 12), ("0.0625", 4)])
def test_a_run_ends_in_a_vocoder_and_goes_on(
    sounding: Path, tmp_path: Path, discriminators: str, updates: int
) -> None:
    more = [f"vocoder.discriminators={discriminators}", f"train.updates={updates}",
            f"train.validate_every={updates // 2}"]  # fmt: skip
    whole = go(sounding, tmp_path / "whole", *more)
    assert whole.validation[-1][1] < whole.validation[0][1]
    assert {"log_mel_error", "spectral_distance"} <= set(whole.log[-1])
    go(sounding, tmp_path / "half", *more, f"train.updates={updates // 2}")
    again = go(sounding, tmp_path / "half", *more)
    assert [u for u, *_ in again.losses] == list(range(1, updates + 1))
    folder = ModelFolder.open(tmp_path / "whole" / "model")
    network = folder.load("vocoder")
    assert isinstance(network, Vocoder)
    wave = named_vocoder(tmp_path / "whole" / "model", SPEC)(torch.zeros(20, 80) - 5)
    assert wave.shape == (19 * SPEC.hop,)


def test_a_run_taken_up_is_the_unbroken_one(sounding: Path, tmp_path: Path) -> None:
    """The learning rate follows the planned updates: the same plan, stopped after six."""
    from voiceflow.training import checkpoint

    whole = go(sounding, tmp_path / "run")
    first, last = checkpoint.found(tmp_path / "run" / "vocoder" / "checkpoints")
    assert (int(first.name), int(last.name)) == (6, 12)
    import shutil

    shutil.rmtree(last)
    again = go(sounding, tmp_path / "run")
    assert again.losses == whole.losses


def test_discriminators_come_to_a_trained_vocoder(sounding: Path, tmp_path: Path) -> None:
    go(sounding, tmp_path / "first")
    model = tmp_path / "first" / "model"
    few = ("vocoder.discriminators=0.0625", "train.updates=1")
    second = go(sounding, tmp_path / "second", f"train.init_from={model}", *few)
    first = go(sounding, tmp_path / "fresh", *few)
    assert second.log[0]["loss"] < first.log[0]["loss"]


def test_a_voice_carries_it(sounding: Path, tiny_voice: Path, tmp_path: Path) -> None:
    from voiceflow.vocoders.neural import NeuralVocoder
    from voiceflow.voice import Voice

    go(sounding, tmp_path / "run", "train.updates=2")
    pack(tiny_voice, tmp_path / "voice", vocoder=tmp_path / "run" / "model")
    voice = Voice.load(tmp_path / "voice")
    assert isinstance(voice.vocoder, NeuralVocoder)
    assert len(voice.vocode(torch.zeros(50, 80) - 5)) > 0
    other = Voice.load(tmp_path / "voice", "griffin-lim")
    assert not isinstance(other.vocoder, NeuralVocoder)


def test_the_memory_probe_has_a_sound(sounding: Path, tmp_path: Path) -> None:
    probed = go(sounding, tmp_path / "probed", "train.memory_probe=true", "train.updates=2")
    assert probed.losses == go(sounding, tmp_path / "plain", "train.updates=2").losses


def test_bad_input(sounding: Path, prepared: Path, tiny_voice: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no manifest\.jsonl, which says where its recordings"):
        go(prepared, tmp_path / "a")
    with pytest.raises(UserError, match="it needs prepared data on a disk"):
        go(sounding, tmp_path / "b", "train.stream=true")
    with pytest.raises(UserError, match=r"vocoder\.n_fft must be a multiple of the hop"):
        go(sounding, tmp_path / "c", "vocoder.n_fft=500")
    with pytest.raises(UserError, match="u-99 is not in the manifest"):
        Waves.of(sounding, RATE).crop("u-99", 0, 10)
    with pytest.raises(UserError, match="has no vocoder network"):
        named_vocoder(tiny_voice, ModelFolder.open(tiny_voice).features)


def test_recordings_are_forgotten_when_there_are_too_many(sounding: Path) -> None:
    waves = Waves.of(sounding, RATE)
    waves.most = 20_000
    alone = {id: Waves.of(sounding, RATE).crop(id, 100, 500) for id in waves.utterances}
    for id in [*waves.utterances, *waves.utterances]:
        assert np.array_equal(waves.crop(id, 100, 500), alone[id])
    assert waves._held <= 20_000 or len(waves._kept) == 1


@pytest.mark.parametrize("differences", ["true", "false"])
def test_a_held_out_recording_is_made_anew(
    sounding: Path, tmp_path: Path, differences: str
) -> None:
    """Sound, picture and figures at each sampling; nearer after an update or twelve."""
    run = go(sounding, tmp_path / "run", "train.sample_every=6", "train.learning_rate=5e-3",
             f"vocoder.differences={differences}")  # fmt: skip
    folder = tmp_path / "run" / "vocoder" / "samples"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{update:08d}-resynthesis.{kind}" for update in (6, 12) for kind in ("png", "wav")
    ]
    figures = [line for line in run.log if "stft_distance" in line]
    assert [line["update"] for line in figures] == [6, 12]
    assert all(math.isfinite(line["stft_distance"]) for line in figures)


def test_a_vocoder_of_differences_is_trained_and_loaded(sounding: Path, tmp_path: Path) -> None:
    run = go(sounding, tmp_path / "run", "vocoder.differences=true", "train.learning_rate=5e-3")
    assert run.validation[-1][1] < run.validation[0][1]
    assert {"magnitude", "over_time", "over_frequency"} <= set(run.log[-1])
    wave = named_vocoder(tmp_path / "run" / "model", SPEC)(torch.zeros(20, 80) - 5)
    assert wave.shape == (19 * SPEC.hop,)


def test_packed_for_a_voice_of_other_statistics_it_sounds_the_same(
    sounding: Path, tiny_voice: Path, tmp_path: Path
) -> None:
    """But for the edges, where its convolution hears zeros."""
    go(sounding, tmp_path / "run", "train.updates=2", "vocoder.differences=true")
    model = tmp_path / "run" / "model"
    pack(tiny_voice, tmp_path / "voice", vocoder=model)
    packed = ModelFolder.open(tmp_path / "voice")
    own = ModelFolder.open(model)
    mel = torch.randn(60, 80, generator=torch.Generator().manual_seed(0)) - 5
    a = own.load("vocoder")(own.features.normalise(mel)[None])
    b = packed.load("vocoder")(packed.features.normalise(mel)[None])
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(other[:, 10:-10], one[:, 10:-10], rtol=2e-2, atol=2e-3)


def test_the_mean_of_two_vocoders(sounding: Path, tiny_voice: Path, tmp_path: Path) -> None:
    go(sounding, tmp_path / "one", "train.updates=2", "vocoder.differences=true")
    go(sounding, tmp_path / "two", "train.updates=2", "vocoder.differences=true",
       f"train.init_from={tmp_path / 'one' / 'model'}")  # fmt: skip
    one, two = tmp_path / "one" / "model", tmp_path / "two" / "model"
    for name, *places in (("a", one), ("b", two), ("mean", one, two)):
        pack(tiny_voice, tmp_path / name, None, *places)
    a, b, mean = (ModelFolder.open(tmp_path / n).load("vocoder") for n in ("a", "b", "mean"))
    for x, y, z in zip(a.parameters(), b.parameters(), mean.parameters(), strict=True):
        torch.testing.assert_close(z, (x + y) / 2, rtol=2e-3, atol=1e-4)
    go(sounding, tmp_path / "three", "train.updates=2", "vocoder.differences=true",
       "vocoder.width=24")  # fmt: skip
    with pytest.raises(UserError, match="a vocoder of another size: no mean can be taken"):
        pack(tiny_voice, tmp_path / "c", None, one, tmp_path / "three" / "model")
