"""Public vocoders' folders: configurations and weights that fit, are converted, or are refused."""

import json
import math
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vocoders.public import (
    BIGVGAN,
    HIFIGAN,
    SPEC,
    SPECS,
    VOCOS,
    golden,
    golden_weights,
    mel,
    write,
)
from voiceflow.config import UserError
from voiceflow.vocoders import bigvgan, vocos
from voiceflow.vocoders.pretrained import (
    configuration_of,
    conversion,
    load_pretrained,
)

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
