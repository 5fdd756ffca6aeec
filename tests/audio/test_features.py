"""The front end: equal to librosa's, counted right, and never mixed with another."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError

SPEC = FeatureSpec()


def librosas(wave: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """(T, M) mel magnitudes by librosa, in float64."""
    mel = librosa.feature.melspectrogram(
        y=wave.astype(np.float64),
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        win_length=spec.window,
        hop_length=spec.hop,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max,
        power=spec.power,
        center=spec.center,
        pad_mode=spec.pad_mode,
        htk=spec.mel_scale == "htk",
        norm=spec.mel_norm,
    )
    return np.asarray(mel.T)


def sweep(seconds: float = 2.0) -> np.ndarray:
    """A sine from 50 Hz to 7.9 kHz, with a little noise so that no band is empty."""
    t = np.arange(int(seconds * SPEC.sample_rate)) / SPEC.sample_rate
    chirp = np.sin(2 * np.pi * (50 * t + (7900 - 50) / (2 * seconds) * t * t))
    noise = np.random.default_rng(0).normal(size=len(t))
    return (0.5 * chirp + 0.01 * noise).astype(np.float32)


def assert_equals_librosa(wave: np.ndarray, spec: FeatureSpec, tolerance: float = 1e-4) -> None:
    mine = LogMel(spec).mel(torch.from_numpy(wave)).numpy()
    theirs = librosas(wave, spec)
    assert mine.shape == theirs.shape == (spec.n_frames(len(wave)), spec.n_mels)
    # Below the floor of the logarithm nothing is heard: there the floor is the measure.
    difference = np.abs(mine - theirs) / np.maximum(theirs, spec.floor)
    assert difference.max() < tolerance


@pytest.mark.parametrize(
    ("spec", "tolerance"),
    [
        (SPEC, 1e-4),
        (replace(SPEC, power=2.0), 3e-4),
        (replace(SPEC, mel_scale="htk", mel_norm=None, f_min=20.0), 1e-4),
    ],
    ids=["voicebox16k", "power", "htk"],
)
def test_mel_of_a_sweep_is_librosas(spec: FeatureSpec, tolerance: float) -> None:
    assert_equals_librosa(sweep(), spec, tolerance)


def test_mel_of_real_speech_is_librosas(speech_dir: Path) -> None:
    folder = speech_dir / "LibriSpeech" / "test-clean"
    chosen = sorted(folder.glob("*/*/*.flac"))[::28]
    assert len(chosen) == 10
    for path in chosen:
        assert_equals_librosa(load_mono(path, SPEC.sample_rate), SPEC)


def test_a_tone_stands_in_its_band_and_at_its_time() -> None:
    n = SPEC.sample_rate
    wave = np.zeros(n, np.float32)
    middle = slice(n // 4, 3 * n // 4)
    wave[middle] = np.sin(2 * np.pi * 1000 * np.arange(n // 2) / n)
    mel = LogMel(SPEC)(torch.from_numpy(wave))
    centres = librosa.mel_frequencies(SPEC.n_mels + 2, fmin=0, fmax=8000)[1:-1]
    assert int(mel[50].argmax()) == int(np.abs(centres - 1000).argmin())
    loud = (mel.amax(1) > mel[50].max() - 1).nonzero().flatten()
    assert abs(int(loud[0]) - 25) <= 1  # 0.25 s at 100 frames/s
    assert abs(int(loud[-1]) - 75) <= 1


def test_the_logarithm_is_natural_and_has_a_floor() -> None:
    wave = torch.from_numpy(sweep(0.5))
    log_mel = LogMel(SPEC)
    torch.testing.assert_close(log_mel(wave), log_mel.mel(wave).clamp(min=1e-5).log())
    silence = log_mel(torch.zeros(2000))
    assert silence.unique().tolist() == pytest.approx([np.log(1e-5)])


def test_a_batch_gives_what_its_waves_give_alone() -> None:
    waves = torch.stack([torch.from_numpy(sweep(0.5)), torch.randn(8000) * 0.1])
    log_mel = LogMel(SPEC)
    together = log_mel(waves)
    assert together.shape == (2, SPEC.n_frames(8000), 80)
    for i in range(2):
        torch.testing.assert_close(together[i], log_mel(waves[i]))


@pytest.mark.parametrize("n_samples", [513, 640, 799, 800, 801, 16000])
@pytest.mark.parametrize("hop", [160, 256])
def test_n_frames_is_what_is_made(n_samples: int, hop: int) -> None:
    spec = replace(SPEC, hop=hop)
    assert LogMel(spec)(torch.zeros(n_samples)).shape == (spec.n_frames(n_samples), 80)
    assert spec.n_frames(n_samples) == 1 + n_samples // hop
    assert spec.hop_seconds == hop / 16000


def test_n_frames_without_centring() -> None:
    spec = replace(SPEC, center=False)
    for n_samples in (1024, 1183, 1184, 5000):
        assert len(LogMel(spec)(torch.zeros(n_samples))) == spec.n_frames(n_samples)


@pytest.mark.parametrize("n_samples", [0, 1, 512])
def test_a_wave_that_is_too_short(n_samples: int) -> None:
    with pytest.raises(ValueError, match=f"{n_samples} samples are too few: .* more than 512"):
        LogMel(SPEC)(torch.zeros(n_samples))


def test_normalise_and_back() -> None:
    spec = SPEC.with_statistics(-5.0000004, 2.25)
    assert (spec.mean, spec.std) == (-5.0, 2.25)
    mel = torch.tensor([-5.0, -2.75, -11.5])
    assert spec.normalise(mel).tolist() == pytest.approx([0.0, 1.0, -6.5 / 2.25])
    torch.testing.assert_close(spec.denormalise(spec.normalise(mel)), mel)


def changed() -> list[FeatureSpec]:
    """A specification for each field in which it differs from the default."""
    others = {"mel_scale": "htk", "mel_norm": None, "center": False, "pad_mode": "constant"}
    numbers = {name: 2 * value + 1 for name, value in asdict(SPEC).items() if name not in others}
    return [replace(SPEC, **{f.name: (others | numbers)[f.name]}) for f in fields(SPEC)]


def test_every_field_is_in_the_fingerprint() -> None:
    prints = {spec.fingerprint() for spec in [SPEC, *changed()]}
    assert len(prints) == 1 + len(fields(SPEC))
    assert FeatureSpec().fingerprint() == SPEC.fingerprint()
    assert all(len(p) == 16 for p in prints)


@pytest.mark.parametrize("other", changed(), ids=[f.name for f in fields(SPEC)])
def test_require_names_the_field_that_differs(other: FeatureSpec) -> None:
    SPEC.require(replace(SPEC), "here", "there")
    name = next(f.name for f in fields(SPEC) if getattr(SPEC, f.name) != getattr(other, f.name))
    shown = f"{name} {getattr(SPEC, name)} / {getattr(other, name)}"
    with pytest.raises(UserError) as caught:
        SPEC.require(other, "here", "there")
    assert f"here and there have different feature specifications ({shown})" in str(caught.value)


def test_require_names_all_fields_that_differ() -> None:
    with pytest.raises(UserError, match=r"\(sample_rate 16000 / 22050; hop 160 / 256\)"):
        SPEC.require(replace(SPEC, hop=256, sample_rate=22050), "a", "b")


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, mel_norm=None, mean=-5.123456)])
def test_save_and_load(spec: FeatureSpec, tmp_path: Path) -> None:
    spec.save(tmp_path / "features.json")
    loaded = FeatureSpec.load(tmp_path / "features.json")
    assert loaded == spec
    assert loaded.fingerprint() == spec.fingerprint()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({**asdict(SPEC), "hops": 3}), "hops"),
        (json.dumps({**asdict(SPEC), "hop": "wide"}), "wide"),
        ("{", "no readable feature specification"),
        ("[1, 2]", "features.json"),
        ('"hop"', "features.json"),
        ("null", "features.json"),
    ],
    ids=["unknown key", "wrong type", "damaged", "list", "text", "null"],
)
def test_what_is_no_specification(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"features\.json") as caught:
        FeatureSpec.load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable feature specification"):
        FeatureSpec.load(tmp_path / "none.json")


def test_the_configuration_file_is_the_default() -> None:
    assert FeatureSpec.named("voicebox16k") == SPEC


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'bark' does not exist: choose one of .*voicebox16k"):
        FeatureSpec.named("bark")


def test_a_long_wave_in_blocks_is_as_one() -> None:
    """Frames are the same wherever a block begins."""
    log_mel = LogMel(FeatureSpec())
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(2 * 6000 * 160 + 6000 * 160 + 77, generator=generator)
    made = log_mel(wave)
    assert len(made) == log_mel.spec.n_frames(len(wave))
    torch.testing.assert_close(made, log_mel(wave[None])[0], rtol=0, atol=1e-5)
