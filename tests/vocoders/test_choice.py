"""Which vocoder a name means, and that none is taken whose front end is another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import SampleConfig, UserError, VocoderConfig, load_group
from voiceflow.model_folder import save_network
from voiceflow.models.vocoder import Vocoder
from voiceflow.text.phones import PhoneTable
from voiceflow.vocoders.bigvgan import BigVGAN, read_config
from voiceflow.vocoders.choice import named_vocoder, require_front_end
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.vocoders.neural import NeuralVocoder
from voiceflow.vocoders.pretrained import PretrainedVocoder

constants = pytest.importorskip("huggingface_hub.constants")
OURS = FeatureSpec.named("voicebox16k")
# The published front end, and a network as small as can be.
BIGVGAN = {
    "resblock": "1", "activation": "snakebeta", "snake_logscale": True,
    "upsample_rates": [16, 16], "upsample_kernel_sizes": [16, 16], "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]],
    "num_mels": 100, "n_fft": 1024, "win_size": 1024, "hop_size": 256, "sampling_rate": 24000,
    "fmin": 0, "fmax": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network is tried, and the Hub's cache is a folder of the test."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_bigvgan(folder: Path) -> Path:
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(BIGVGAN))
    network = BigVGAN(read_config(BIGVGAN, "config.json")[1])
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture()
def bigvgan(tmp_path: Path) -> Path:
    return write_bigvgan(tmp_path / "bigvgan")


@pytest.fixture()
def voice(tmp_path: Path) -> Path:
    """A model folder with an untrained vocoder."""
    config = load_group(VocoderConfig, "vocoder", "tiny")
    network = Vocoder(config, OURS)
    save_network(
        tmp_path / "voice", "vocoder", network.state_dict(), config, PhoneTable.english(), OURS,
        SampleConfig(), {},
    )  # fmt: skip
    return tmp_path / "voice"


def test_griffin_lim_fits_every_voice() -> None:
    for name in ("voicebox16k", "vocos24k", "bigvgan24k", "hifigan16k", "hifigan22k"):
        spec = FeatureSpec.named(name)
        found = named_vocoder("griffin-lim", spec)
        assert isinstance(found, GriffinLim)
        assert found.spec == spec


def test_a_voices(voice: Path, tiny_voice: Path) -> None:
    found = named_vocoder(voice, replace(OURS, mean=-1.0))
    assert isinstance(found, NeuralVocoder) and not isinstance(found, PretrainedVocoder)
    with pytest.raises(UserError, match="has no vocoder network"):
        named_vocoder(tiny_voice, OURS)


def test_a_public_ones_folder(bigvgan: Path) -> None:
    """Whatever the voice's mean and deviation: it hears logarithms as they are."""
    spec = FeatureSpec.named("bigvgan24k")
    found = named_vocoder(bigvgan, spec)
    assert isinstance(found, PretrainedVocoder)
    assert (found.spec.mean, found.spec.std) == (0.0, 1.0)
    wave = found(torch.full((5, 100), -6.0))
    assert wave.shape == (4 * 256,)
    other = named_vocoder(bigvgan, spec.with_statistics(-1.0, 3.0))
    torch.testing.assert_close(other(torch.full((5, 100), -6.0)), wave)


def test_a_public_ones_hub_name(offline: Path) -> None:
    model = offline / "models--owner--model"
    commit = "0123456789abcdef0123456789abcdef01234567"
    write_bigvgan(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    spec = FeatureSpec.named("bigvgan24k")
    assert isinstance(named_vocoder("owner/model", spec), PretrainedVocoder)
    with pytest.raises(UserError, match=r"vocoder 'owner/model' and the voice have different"):
        named_vocoder("owner/model", OURS)
    with pytest.raises(UserError, match="the Hugging Face Hub did not give it"):
        named_vocoder("owner/absent", spec)
    # The cache is not written to: the pickle is fetched to a folder of the user's.
    (model / "snapshots" / commit / "model.safetensors").unlink()
    (model / "snapshots" / commit / "bigvgan_generator.pt").touch()
    with pytest.raises(UserError, match="hf download owner/model --local-dir FOLDER") as found:
        named_vocoder("owner/model", spec)
    assert str(offline) not in str(found.value).splitlines()[-1]


@pytest.mark.parametrize("name", ["nothing", "runs/x/model", "a b/c", "empty"])
def test_what_is_neither(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=f"vocoder '{name}' is none that is known") as found:
        named_vocoder(name, OURS)
    for way in ("griffin-lim", "mini", "model folder", "Vocos, BigVGAN", "Hugging Face name"):
        assert way in str(found.value)


def test_a_table_of_what_differs(bigvgan: Path) -> None:
    with pytest.raises(UserError) as found:
        named_vocoder(bigvgan, OURS)
    first, *table, advice = str(found.value).splitlines()
    assert first.startswith(f"vocoder '{bigvgan}' and the voice have different feature spec")
    assert [line.split() for line in table] == [
        ["field", "vocoder's", "voice's"],
        ["sample_rate", "24000", "16000"],
        ["window", "1024", "640"],
        ["hop", "256", "160"],
        ["n_mels", "100", "80"],
        ["f_max", "12000.0", "8000.0"],
    ]
    assert {line.index(line.split()[1]) for line in table} == {table[0].index("vocoder's")}
    assert "--features bigvgan24k`" in advice


def test_a_voices_table(voice: Path) -> None:
    with pytest.raises(UserError, match=r"hop +160 +256") as found:
        named_vocoder(voice, replace(OURS, hop=256))
    assert "--features voicebox16k`" in str(found.value)


def test_the_fields_one_by_one() -> None:
    """Each but the mean and the deviation is enough to be refused."""
    spec = FeatureSpec.named("vocos24k")
    changes = {
        "sample_rate": 22050, "n_fft": 2048, "window": 512, "hop": 128, "n_mels": 80, "f_min": 20.0,
        "f_max": 8000.0, "power": 2.0, "mel_scale": "slaney", "mel_norm": "slaney", "floor": 1e-5,
        "center": False, "pad_mode": "constant",
    }  # fmt: skip
    assert {*changes, "mean", "std"} == set(vars(spec))
    for field, value in changes.items():
        with pytest.raises(UserError, match=f"\n  {field} .*\nprepare .*--features vocos24k"):
            require_front_end(spec, replace(spec, **{field: value}), "it")
        with pytest.raises(UserError, match="no configuration in conf/features has"):
            require_front_end(replace(spec, **{field: value, "n_fft": 4096}), spec, "it")
    require_front_end(spec, replace(spec, mean=0.0, std=1.0), "it")
