"""Public vocoders: what they make is what their own packages make, at the right time."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.vocoders.public import (
    BANDS,
    HOP,
    KINDS,
    N_FFT,
    SPECS,
    golden,
    golden_weights,
    hifigan_network,
    mel,
    write,
)
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.vocoders import vocos
from voiceflow.vocoders.pretrained import (
    load_pretrained,
)


@pytest.mark.parametrize("name", SPECS)
def test_parity_with_the_public_package(folder: Path, name: str) -> None:
    """Vocos: the whole of it. BigVGAN: its own wave from sample hop / 2 on, to the last frame."""
    kept = golden(name)
    wave = load_pretrained(folder)(kept["mel"])
    delay = 0 if name == "vocos" else HOP // 2
    expected = kept["wave"][delay : delay + (len(kept["mel"]) - 1) * HOP]
    assert expected.std() > 0.02
    torch.testing.assert_close(wave, expected.clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_the_front_end_is_the_public_packages(folder: Path, name: str) -> None:
    """Their own log-mel of a noise; BigVGAN's frame i is ours of the sound from hop / 2 on."""
    vocoder, kept = load_pretrained(folder), golden(name)
    assert vocoder.spec == SPECS[name]
    delay = 0 if name == "vocos" else HOP // 2
    ours = LogMel(vocoder.spec)(kept["heard"][delay:])
    inside = slice(4, len(kept["heard_mel"]) - 4)  # the ends are padded in other ways
    torch.testing.assert_close(ours[inside], kept["heard_mel"][inside], rtol=0, atol=1e-4)
    if name == "vocos":
        torch.testing.assert_close(ours, kept["heard_mel"], rtol=0, atol=1e-4)


def test_the_front_end_of_hifigan_is_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    wave = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    theirs = transformers.SpeechT5FeatureExtractor()(audio_target=wave.numpy(), sampling_rate=16000)
    expected = torch.from_numpy(theirs["input_values"][0]) * math.log(10)
    ours = LogMel(FeatureSpec.named("hifigan16k"))(wave)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)


def test_hifigan_hears_decimal_logarithms(tmp_path: Path) -> None:
    vocoder = load_pretrained(write(tmp_path / "hifigan", "hifigan"))
    heard = mel(vocoder, 30)
    with torch.no_grad():
        raw = hifigan_network()(heard / math.log(10))
    assert raw.shape == (30 * 256,)
    assert raw.std() > 0.01
    torch.testing.assert_close(vocoder(heard), raw[: 29 * 256], rtol=0, atol=1e-5)


@pytest.mark.parametrize("old", [True, False])
def test_both_names_of_weight_norm(tmp_path: Path, old: bool) -> None:
    """The golden file has the old ones; plain weights are accepted too."""
    folder = write(tmp_path / "bigvgan", "bigvgan")
    expected = load_pretrained(folder)(golden("bigvgan")["mel"])
    found = golden_weights("bigvgan")
    assert any(n.endswith("weight_g") for n in found)
    if old:
        plain = {n: w for n, w in found.items() if not n.endswith(("weight_g", "weight_v"))}
        for n in [n for n in found if n.endswith("weight_v")]:
            g = found[n[:-1] + "g"]
            plain[n[:-2]] = torch._weight_norm(found[n], g, 0)
        found = plain
    else:
        new = (("weight_g", "original0"), ("weight_v", "original1"))
        for a, b in new:
            found = {n.replace(a, f"parametrizations.weight.{b}"): w for n, w in found.items()}
    save_file(found, folder / "model.safetensors")
    torch.testing.assert_close(load_pretrained(folder)(golden("bigvgan")["mel"]), expected)


def test_a_click_in_a_frame_is_heard_at_its_middle(tmp_path: Path) -> None:
    """A Vocos that makes a frame's loudness a click in the middle of that frame's window."""
    folder = write(tmp_path / "vocos", "vocos")
    made = {n: torch.zeros_like(w) for n, w in golden_weights("vocos").items()}
    for n in made:
        if "norm.weight" in n:
            made[n] += 1
    made["feature_extractor.mel_spec.mel_scale.fb"] = golden_weights("vocos")[
        "feature_extractor.mel_spec.mel_scale.fb"
    ]
    made["backbone.embed.weight"][0, 0, 3] = 1.0  # channel 0 is band 0 of the frame itself
    bins = N_FFT // 2 + 1
    made["head.out.weight"][:bins, 0] = 2.0
    made["head.out.bias"][:bins] = -8.0
    made["head.out.bias"][bins:] = math.pi * torch.arange(bins)
    save_file(made, folder / "model.safetensors")
    vocoder = load_pretrained(folder)
    heard = torch.full((40, BANDS), -5.0)
    heard[17] = 5.0
    assert int(vocoder(heard).abs().argmax()) == 17 * HOP


def test_magnitudes_are_clipped_as_in_training() -> None:
    head = vocos.ClippedHead(4, 6)
    torch.nn.init.constant_(head.bias, 10.0)
    torch.nn.init.zeros_(head.weight)
    log_magnitude, phase = head(torch.zeros(1, 2, 4)).chunk(2, dim=-1)
    torch.testing.assert_close(log_magnitude.exp(), torch.full((1, 2, 3), 100.0))
    assert phase.unique().tolist() == [10.0]


def test_frames_are_all_alike(folder: Path) -> None:
    """A frame later in, a hop later out: away from the ends, nothing depends on where it is."""
    vocoder = load_pretrained(folder)
    hop, reach = vocoder.spec.hop, vocoder.network.reach + 1
    heard = mel(vocoder, 2 * reach + 20)
    first, second = vocoder(heard[:-1]), vocoder(heard[1:])
    inside = slice(reach * hop, (len(heard) - 2 - reach) * hop)
    later = first[hop:][inside]
    assert later.std() > 0.005
    torch.testing.assert_close(second[: len(first) - hop][inside], later, rtol=0, atol=1e-5)


def test_the_reach_is_as_far_as_a_frame_is_heard(folder: Path) -> None:
    vocoder = load_pretrained(folder)
    hop, reach = vocoder.spec.hop, vocoder.network.reach
    base = mel(vocoder, 4 * reach)
    changed = base.clone()
    middle = 2 * reach
    changed[middle] += 1.0
    moved = (vocoder(base) != vocoder(changed)).nonzero().flatten()
    first, last = int(moved.min()) / hop, int(moved.max()) / hop
    assert middle - reach <= first <= middle <= last <= middle + reach


@pytest.mark.parametrize("n_frames", [1, 2, 3, 50])
def test_a_hop_between_frames(folder: Path, name: str, n_frames: int) -> None:
    vocoder = load_pretrained(str(folder))
    wave = vocoder(mel(vocoder, n_frames))
    assert wave.shape == ((n_frames - 1) * vocoder.spec.hop,)
    assert wave.dtype == torch.float32
    assert bool(wave.isfinite().all())
    assert vocoder.kind == KINDS[name]


def test_chunks_change_no_sample(folder: Path) -> None:
    vocoder = load_pretrained(folder)
    heard = mel(vocoder, 151)
    whole = vocoder(heard)
    for chunk in (7, 50, 149, 150):
        parts = load_pretrained(folder, chunk=chunk)(heard)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda m: torch.zeros(10, m + 1), "a log-mel of one or more frames"),
        (lambda m: torch.zeros(0, m), "a log-mel of one or more frames"),
        (lambda m: torch.zeros(1, 10, m), "a log-mel of one or more frames"),
        (lambda m: torch.full((10, m), math.nan), "NaN or infinite"),
        (lambda m: torch.full((10, m), math.inf), "NaN or infinite"),
    ],
)
def test_bad_input(folder: Path, bad: Callable[[int], Tensor], reason: str) -> None:
    vocoder = load_pretrained(folder)
    with pytest.raises(ValueError, match=reason):
        vocoder(bad(vocoder.spec.n_mels))
