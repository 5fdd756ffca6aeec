"""Public vocoders: what they make is what their own packages make, at the right time, or refused.

The golden files hold small random networks, what they were given and what came out, computed by the
public packages vocos 0.1.0 and bigvgan 2.4.1 of PyPI (MIT), and each package's own log-mel of a
noise. They are written anew, where both packages are installed without their dependencies, by

    python -m tests.vocoders.test_pretrained
"""

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.vocoders import bigvgan, vocos
from voiceflow.vocoders.pretrained import (
    PretrainedVocoder,
    configuration_of,
    conversion,
    load_pretrained,
)

GOLDEN = Path(__file__).parent / "golden"
RATE, BANDS, N_FFT, HOP = 24000, 10, 256, 64
VOCOS: dict[str, Any] = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {
            "sample_rate": RATE, "n_fft": N_FFT, "hop_length": HOP, "n_mels": BANDS,
            "padding": "center",
        },
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {
            "input_channels": BANDS, "dim": 16, "intermediate_dim": 24, "num_layers": 2,
        },
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 16, "n_fft": N_FFT, "hop_length": HOP, "padding": "center"},
    },
}  # fmt: skip
# As version 2: periods on a logarithmic scale, no tanh and no bias at the end.
BIGVGAN: dict[str, Any] = {
    "resblock": "1", "activation": "snakebeta", "snake_logscale": True,
    "upsample_rates": [8, 4, 2], "upsample_kernel_sizes": [16, 8, 4],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 2]],
    "use_tanh_at_final": False, "use_bias_at_final": False,
    "num_mels": BANDS, "n_fft": N_FFT, "win_size": N_FFT, "hop_size": HOP, "sampling_rate": RATE,
    "fmin": 0, "fmax": None, "learning_rate": 0.0001,
}  # fmt: skip
BIGVGAN_1: dict[str, Any] = {
    **{k: v for k, v in BIGVGAN.items() if not k.startswith("use_")},
    "resblock": "2", "activation": "snake", "snake_logscale": False, "fmax": 8000,
}  # fmt: skip
HIFIGAN: dict[str, Any] = {
    "model_type": "speecht5_hifigan", "architectures": ["SpeechT5HifiGan"],
    "upsample_rates": [8, 8, 4], "upsample_kernel_sizes": [16, 16, 8],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]],
}  # fmt: skip
CONFIGS = {"vocos": VOCOS, "bigvgan": BIGVGAN, "bigvgan_1": BIGVGAN_1, "hifigan": HIFIGAN}
KINDS = {
    "vocos": "Vocos", "bigvgan": "BigVGAN", "bigvgan_1": "BigVGAN", "hifigan": "HiFi-GAN",
}  # fmt: skip
SPEC = FeatureSpec(
    sample_rate=RATE, n_fft=N_FFT, window=N_FFT, hop=HOP, n_mels=BANDS, f_min=0.0, f_max=12000.0,
    mean=0.0, std=1.0,
)  # fmt: skip
SPECS = {
    "vocos": replace(SPEC, mel_scale="htk", mel_norm=None, floor=1e-7),
    "bigvgan": SPEC,
    "bigvgan_1": replace(SPEC, f_max=8000.0),
}


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def golden_weights(name: str) -> dict[str, Tensor]:
    found = golden(name)
    return {k.removeprefix("weight:"): v for k, v in found.items() if k.startswith("weight:")}


def hifigan_network() -> Any:
    """transformers' class with random weights that are heard."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network = transformers.SpeechT5HifiGan(transformers.SpeechT5HifiGanConfig(**HIFIGAN)).eval()
    louder(network)
    network.mean.copy_(torch.linspace(-3, -2, 80))
    network.scale.copy_(torch.linspace(1, 2, 80))
    return network


@torch.no_grad()
def louder(network: torch.nn.Module) -> None:
    """Random weights as large as a layer's inputs allow."""
    for name, p in network.named_parameters():
        if p.dim() > 1 and not name.endswith(("weight_g", "original0")):
            p.normal_(0, p[0].numel() ** -0.5)
        elif name.endswith("bias"):
            p.normal_(0, 0.1)


def weights(name: str) -> dict[str, Tensor]:
    return hifigan_network().state_dict() if name == "hifigan" else golden_weights(name)


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    if "feature_extractor" in values:
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(values)))
    else:
        (folder / "config.json").write_text(json.dumps(values))


def write(folder: Path, name: str, config: Mapping[str, Any] | None = None) -> Path:
    """A public vocoder's folder, with another configuration if one is given."""
    write_config(folder, CONFIGS[name] if config is None else config)
    save_file({k: v.clone() for k, v in weights(name).items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def folder(tmp_path: Path, name: str) -> Path:
    return write(tmp_path / name, name)


def mel(vocoder: PretrainedVocoder, n_frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_frames, vocoder.spec.n_mels, generator=generator) - 3


# --- the same as the public packages ---------------------------------------------------------


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


# --- in time ---------------------------------------------------------------------------------


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


# --- shapes, chunks, bad input ---------------------------------------------------------------


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


# --- configurations --------------------------------------------------------------------------

PUBLISHED = {
    "vocos24k": ("vocos", {"n_mels": 100, "n_fft": 1024, "hop_length": 256}),
    "bigvgan24k": (
        "bigvgan",
        {"num_mels": 100, "n_fft": 1024, "win_size": 1024, "hop_size": 256,
         "upsample_rates": [4, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
         "upsample_initial_channel": 64},
    ),
}  # fmt: skip


def vocos_with(**changes: Any) -> dict[str, Any]:
    """Its configuration with `part__key=value`, or `key=value` wherever that key stands."""
    made: dict[str, Any] = json.loads(json.dumps(VOCOS))
    for key, value in changes.items():
        part, _, inner = key.rpartition("__")
        for p, values in made.items():
            if p == part or (not part and inner in values["init_args"]):
                values["init_args"][inner] = value
    return made


@pytest.mark.parametrize("features", PUBLISHED)
def test_the_published_front_ends_are_configurations(features: str) -> None:
    name, sizes = PUBLISHED[features]
    if name == "vocos":
        spec, _ = vocos.read_config(vocos_with(**sizes, input_channels=100), "config.yaml")
    else:
        spec, _ = bigvgan.read_config({**BIGVGAN, **sizes}, "config.json")
    assert configuration_of(spec) == features
    assert configuration_of(replace(spec, sample_rate=44100)) is None


def test_hifigan_has_its_configuration(tmp_path: Path) -> None:
    vocoder = load_pretrained(write(tmp_path / "hifigan", "hifigan"))
    assert configuration_of(vocoder.spec) == "hifigan16k"


def test_the_sizes_of_the_published_networks() -> None:
    """Siuzdak 2023: 13.5 M; BigVGAN v2: 112 M (github.com/NVIDIA/BigVGAN)."""
    published = vocos_with(**PUBLISHED["vocos24k"][1], input_channels=100, dim=512,
                           intermediate_dim=1536, num_layers=8)  # fmt: skip
    big = {
        **BIGVGAN, **PUBLISHED["bigvgan24k"][1], "upsample_initial_channel": 1536,
        "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    }  # fmt: skip
    with torch.device("meta"):
        spec, sizes = vocos.read_config(published, "config.yaml")
        networks = [vocos.Vocos(sizes, spec), bigvgan.BigVGAN(bigvgan.read_config(big, "")[1])]
    millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks]
    assert millions == [pytest.approx(13.5, abs=0.1), pytest.approx(112, abs=1)]
    assert 20 < networks[1].reach < 60


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("vocos", vocos_with(padding="same"), "only 'center' is known"),
        ("vocos", vocos_with(n_mels=12), "n_mels 12 and backbone.input_channels 10"),
        ("vocos", vocos_with(head__hop_length=32), "hop_length 64 and head.hop_length 32"),
        ("vocos", vocos_with(head__dim=8), "backbone.dim 16 and head.dim 8"),
        ("vocos", vocos_with(hop_length=100), "multiple of hop_length"),
        ("vocos", vocos_with(sample_rate="fast"), "sample_rate must be a whole number"),
        ("vocos", vocos_with(feature_extractor__f_max=8000), "its front end cannot be told"),
        ("vocos", vocos_with(backbone__adanorm_num_embeddings=4), "found adanorm_num_emb"),
        ("vocos", {**VOCOS, "head": {"class_path": "vocos.heads.IMDCTCosHead"}}, "only ISTFTHead"),
        ("vocos", {**VOCOS, "head": None}, "only ISTFTHead"),
        ("bigvgan", {k: v for k, v in BIGVGAN.items() if k != "n_fft"}, "tells n_fft, this does"),
        ("bigvgan", {**BIGVGAN, "hop_size": 128}, r"multiply to hop_size \(128\), found \[8, 4"),
        ("bigvgan", {**BIGVGAN, "resblock": "3"}, "resblock is 1 or 2"),
        ("bigvgan", {**BIGVGAN, "activation": "snakes"}, "snake or snakebeta"),
        ("bigvgan", {**BIGVGAN, "sampling_rate": "fast"}, "'fast'"),
        ("bigvgan", {**BIGVGAN, "upsample_kernel_sizes": [16, 8, 3]}, "even number"),
        ("bigvgan", {**BIGVGAN, "upsample_initial_channel": 12}, "halved 3 times"),
        ("bigvgan", {**BIGVGAN, "resblock_dilation_sizes": [[1, 3]]}, "a list of dilations each"),
        ("hifigan", {**HIFIGAN, "sampling_rate": 22050}, "a HiFi-GAN of 22050 Hz, 80 bands"),
        ("hifigan", {**HIFIGAN, "model_in_dim": 100}, "16000 Hz, 100 bands"),
        ("hifigan", {**HIFIGAN, "upsample_rates": "much"}, "no SpeechT5HifiGan can be made"),
    ],
)
def test_a_configuration_that_does_not_fit(
    tmp_path: Path, name: str, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as found:
        load_pretrained(write(tmp_path / name, name, config))
    assert str(tmp_path) in str(found.value)


def test_another_rate_is_derived(tmp_path: Path) -> None:
    """Of Vocos only with its filters: those in the file are of 24 kHz."""
    big = write(tmp_path / "b", "bigvgan", {**BIGVGAN, "sampling_rate": 44100, "fmax": 22050})
    spec = load_pretrained(big).spec
    assert spec == replace(SPEC, sample_rate=44100, f_max=22050.0)
    other = write(tmp_path / "v", "vocos", vocos_with(n_fft=512))
    with pytest.raises(UserError, match="mel filters are not those of 10 bands at 24000 Hz"):
        load_pretrained(other)
    same = write(tmp_path / "w", "vocos", vocos_with(sample_rate=48000))
    kept = {n: w for n, w in golden_weights("vocos").items() if "feature_extractor" not in n}
    save_file(kept, same / "model.safetensors")
    assert load_pretrained(same).spec == replace(SPECS["vocos"], sample_rate=48000, f_max=24000.0)


# --- files -----------------------------------------------------------------------------------


def test_weights_that_do_not_fit(folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    whole = load_file(path)
    kernel = next(n for n in whole if n.endswith(("embed.weight", "conv_pre.bias")))
    config = "config.yaml" if name == "vocos" else "config.json"
    for wrong in (
        {n: w for n, w in whole.items() if n != kernel},
        {**whole, kernel: torch.zeros(3)},
        {**whole, "more": torch.zeros(3)},
    ):
        save_file(wrong, path)
        with pytest.raises(UserError, match=f"weights do not fit {config}"):
            load_pretrained(folder)
    save_file({**whole, kernel: torch.full_like(whole[kernel], math.nan)}, path)
    with pytest.raises(UserError, match=f"{kernel.split('.')[-1]} is not finite"):
        load_pretrained(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="weights are damaged"):
        load_pretrained(folder)


def test_weights_in_half_precision(folder: Path) -> None:
    path = folder / "model.safetensors"
    vocoder = load_pretrained(folder)
    save_file({n: w.half() for n, w in load_file(path).items()}, path)
    halved = load_pretrained(folder)(mel(vocoder, 20))
    torch.testing.assert_close(halved, vocoder(mel(vocoder, 20)), rtol=0, atol=0.05)


def test_a_file_of_another_name(folder: Path) -> None:
    """Taken where it is the only one."""
    (folder / "model.safetensors").rename(folder / "generator.safetensors")
    load_pretrained(folder)
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
    with pytest.raises(UserError, match=r"but generator\.safetensors, other\.safetensors"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["vocos", "bigvgan"])
def test_a_pickle_is_refused_and_its_line_converts_it(folder: Path, name: str) -> None:
    """The line of the message is run as it stands, by this Python."""
    expected = load_pretrained(folder)(golden(name)["mel"])
    (folder / "model.safetensors").unlink()
    found = golden_weights(name)
    pickle, held = (
        ("pytorch_model.bin", found)
        if name == "vocos"
        else ("bigvgan_generator.pt", {"generator": found})
    )
    torch.save(held, folder / pickle)
    with pytest.raises(UserError, match=f"but {pickle}, and pickles are not opened") as refused:
        load_pretrained(folder)
    (line,) = [x for x in str(refused.value).splitlines() if x.startswith("python -c")]
    _, *arguments = shlex.split(line)
    subprocess.run([sys.executable, *arguments], check=True)
    torch.testing.assert_close(load_pretrained(folder)(golden(name)["mel"]), expected)


def test_the_documents_line_is_this_one(repository: Path) -> None:
    public = Path("public/vocos")
    line = conversion(public / "pytorch_model.bin", public / "model.safetensors")
    assert f"\n{line}\n" in (repository / "docs" / "vocoder.md").read_text("utf-8")


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"hf download NAME --local-dir FOLDER") as found:
        load_pretrained(folder)
    assert "FOLDER/model.safetensors" in str(found.value)


def test_no_configuration(folder: Path) -> None:
    for path in folder.glob("config.*"):
        path.unlink()
    with pytest.raises(UserError, match="is none that is known: a folder of Vocos, BigVGAN or"):
        load_pretrained(folder)


@pytest.mark.parametrize("file", ["config.yaml", "config.json"])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text('{"a": [')
    with pytest.raises(UserError, match="cannot be read"):
        load_pretrained(tmp_path)
    (tmp_path / file).write_text("[1, 2]")
    with pytest.raises(UserError, match="is none that is known"):
        load_pretrained(tmp_path)


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "hifigan", "hifigan")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"transformers: pip install -e '\.\[pretrained\]'"):
        load_pretrained(folder)


# --- the golden files ------------------------------------------------------------------------


def write_goldens() -> None:
    """By the public packages; encodec, which vocos imports and a mel does not need, is left out."""
    import types

    stub = types.ModuleType("encodec")
    stub.EncodecModel = None  # type: ignore[attr-defined]
    sys.modules.setdefault("encodec", stub)
    from bigvgan.bigvgan import BigVGAN
    from bigvgan.env import AttrDict
    from bigvgan.meldataset import get_mel_spectrogram
    from vocos.pretrained import Vocos

    heard = 0.3 * torch.randn(30 * HOP, generator=torch.Generator().manual_seed(1))
    given = torch.randn(12, BANDS, generator=torch.Generator().manual_seed(2)) - 3
    GOLDEN.mkdir(exist_ok=True)

    def keep(name: str, network: Any, wave: Tensor, heard_mel: Tensor) -> None:
        tensors = {f"weight:{n}": w for n, w in network.state_dict().items()}
        tensors |= {"mel": given, "wave": wave, "heard": heard, "heard_mel": heard_mel}
        alone = {n: w.detach().clone().contiguous() for n, w in tensors.items()}
        save_file(alone, GOLDEN / f"{name}.safetensors")

    path = Path("config.yaml")
    path.write_text(yaml.safe_dump(VOCOS))
    torch.manual_seed(3)
    public = Vocos.from_hparams(str(path)).eval()
    path.unlink()
    louder(public)
    keep("vocos", public, public.decode(given.T[None])[0],
         public.feature_extractor(heard[None])[0].T)  # fmt: skip
    for name, config in (("bigvgan", BIGVGAN), ("bigvgan_1", BIGVGAN_1)):
        h = AttrDict(dict(config))
        network = BigVGAN(h).eval()
        louder(network)
        with torch.no_grad():
            for n, p in network.named_parameters():
                if n.endswith(("alpha", "beta")):
                    p.add_(0.3 * torch.randn_like(p))
            wave = network(given.T[None])[0, 0]
        keep(name, network, wave, get_mel_spectrogram(heard[None], h)[0].T)


if __name__ == "__main__":
    write_goldens()
