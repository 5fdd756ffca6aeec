"""A voice on disk: what is written comes back, and what is not whole or does not fit is refused."""

import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import (
    AlignerConfig,
    DurationConfig,
    SampleConfig,
    UserError,
    VelocityConfig,
    VocoderConfig,
    load_group,
)
from voiceflow.model_folder import (
    NETWORKS,
    ModelFolder,
    build_aligner,
    build_duration,
    build_duration_flow,
    build_velocity,
    bundled_voices,
    find_voice,
    load_weights,
    pack,
    save_network,
)
from voiceflow.models.vocoder import Vocoder
from voiceflow.text.phones import PhoneTable

PHONES = PhoneTable(["<none>", "SIL", "AA_S", "B_S"])
FEATURES = FeatureSpec(n_mels=7, mean=-4.5, std=1.5)
SAMPLE = SampleConfig(steps=3, guidance=0.25)
VELOCITY = load_group(VelocityConfig, "model", "tiny")
DURATION = load_group(DurationConfig, "duration", "tiny")
ALIGNER = load_group(AlignerConfig, "aligner", "tiny")
VOCODER = load_group(VocoderConfig, "vocoder", "tiny")
CONFIGS: dict[str, VelocityConfig | DurationConfig | AlignerConfig | VocoderConfig] = {
    "velocity": VELOCITY,
    "duration": DURATION,
    "duration_flow": DURATION,
    "aligner": ALIGNER,
    "vocoder": VOCODER,
}


def network(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if name == "velocity":
        return build_velocity(VELOCITY, PHONES, FEATURES)
    if name == "aligner":
        return build_aligner(ALIGNER, PHONES, FEATURES)
    if name == "vocoder":
        return Vocoder(VOCODER, FEATURES)
    if name == "duration_flow":
        return build_duration_flow(DURATION, PHONES)
    return build_duration(DURATION, PHONES)


def save(
    folder: Path,
    name: str,
    seed: int = 0,
    phones: PhoneTable = PHONES,
    features: FeatureSpec = FEATURES,
) -> nn.Module:
    """An untrained network, written to a folder."""
    made = network(name, seed)
    config = CONFIGS[name]
    training = {"updates": 5, "hours_of_data": 0.25}
    save_network(folder, name, made.state_dict(), config, phones, features, SAMPLE, training)
    return made


def assert_same_weights(found: nn.Module, wanted: nn.Module) -> None:
    a, b = found.state_dict(), wanted.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == torch.float32
        assert torch.equal(a[name], b[name]), name


@pytest.fixture()
def voice(tiny_voice: Path, tmp_path: Path) -> Path:
    """A copy of the tiny voice, with a vocoder too, to be spoilt."""
    copy = Path(shutil.copytree(tiny_voice, tmp_path / "voice"))
    folder = ModelFolder.open(copy)
    weights = Vocoder(VOCODER, folder.features).state_dict()
    save_network(copy, "vocoder", weights, VOCODER, folder.phones, folder.features, SAMPLE, {})
    return copy


@pytest.mark.parametrize("order", [NETWORKS, NETWORKS[::-1]])
def test_what_is_saved_comes_back(tmp_path: Path, order: tuple[str, str]) -> None:
    """Either network first; the second leaves the first as it was."""
    folder = tmp_path / "new" / "model"
    made = {name: save(folder, name, seed) for seed, name in enumerate(order)}
    opened = ModelFolder.open(folder)
    assert opened.phones == PHONES
    assert opened.features == FEATURES
    assert opened.config.velocity == VELOCITY
    assert opened.config.duration == DURATION
    assert opened.config.sample == SAMPLE
    training = {"updates": 5, "hours_of_data": 0.25}
    assert opened.config.aligner == ALIGNER
    assert opened.config.training == dict.fromkeys(NETWORKS, training)
    for name in NETWORKS:
        loaded = opened.load(name)
        assert not loaded.training
        assert_same_weights(loaded, made[name])
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "phones.json", "features.json", "velocity.safetensors",
        "duration.safetensors", "duration_flow.safetensors", "aligner.safetensors",
        "vocoder.safetensors",
    }  # fmt: skip


def test_a_network_saved_again_replaces_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, "velocity", seed=1)
    other = save(tmp_path, "duration", seed=2)
    newer = save(tmp_path, "velocity", seed=3)
    opened = ModelFolder.open(tmp_path)
    assert_same_weights(opened.load("velocity"), newer)
    assert_same_weights(opened.load("duration"), other)


def test_a_network_that_was_not_trained(tmp_path: Path) -> None:
    save(tmp_path, "velocity")
    with pytest.raises(UserError, match=r"has no duration network: .*train task=duration"):
        ModelFolder.open(tmp_path).load("duration")


@pytest.mark.parametrize("missing", ["config.yaml", "phones.json", "features.json"])
def test_a_folder_that_is_not_complete(voice: Path, missing: str) -> None:
    (voice / missing).unlink()
    with pytest.raises(UserError, match=f"{voice} is not a complete model folder: {missing} miss"):
        ModelFolder.open(voice)


def test_an_empty_folder_misses_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml, phones\.json, features\.json missing"):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.yaml", "velocity: [", r"config\.yaml: cannot be read"),
        ("config.yaml", "", r"config\.yaml: expected a mapping, found NoneType"),
        ("config.yaml", "colour: red", r"config\.yaml: .*'colour'"),
        ("config.yaml", "sample: {steps: many}", r"config\.yaml: .*'many'"),
        ("phones.json", "[", r"phones\.json: cannot be read"),
        ("phones.json", "{}", r"phones\.json: expected a JSON list"),
        ("features.json", "", r"features\.json: no readable feature specification"),
        ("features.json", '{"n_bands": 80}', r"features\.json: .*'n_bands'"),
    ],
)
def test_a_damaged_file_is_named(voice: Path, file: str, text: str, said: str) -> None:
    (voice / file).write_text(text)
    with pytest.raises(UserError, match=said):
        ModelFolder.open(voice)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil(path: Path) -> None:
    path.write_bytes(b"nonsense")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("damage", [Path.unlink, cut, spoil])
def test_damaged_weights_are_named(
    voice: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(voice / f"{name}.safetensors")
    with pytest.raises(UserError, match=rf"{name}\.safetensors: weights are missing or damaged"):
        ModelFolder.open(voice).load(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_another_size_are_refused(voice: Path, name: str) -> None:
    config = yaml.safe_load((voice / "config.yaml").read_text())
    config[name]["width"] *= 2
    (voice / "config.yaml").write_text(yaml.safe_dump(config))
    said = rf"{name}\.safetensors: the weights do not fit config\.yaml \(.*size mismatch"
    with pytest.raises(UserError, match=said):
        ModelFolder.open(voice).load(name)


def test_weights_that_lack_one_or_have_one_more_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    made = network("duration")
    weights = {name: value.contiguous() for name, value in made.state_dict().items()}
    save_file(weights | {"surplus": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="surplus"):
        load_weights(network("duration"), path)
    dropped = next(iter(weights))
    save_file({k: v for k, v in weights.items() if k != dropped}, path)
    with pytest.raises(UserError, match=dropped):
        load_weights(network("duration"), path)


def test_a_network_for_other_features_or_phones_is_refused(tmp_path: Path) -> None:
    first = save(tmp_path, "velocity")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match=rf"{tmp_path} and the new duration network .*std 1\.5 / 2"):
        save(tmp_path, "duration", features=replace(FEATURES, std=2.0))
    reordered = PhoneTable(["<none>", "SIL", "B_S", "AA_S"])
    with pytest.raises(UserError, match=f"{tmp_path} has another phone table than the new dura"):
        save(tmp_path, "duration", phones=reordered)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert_same_weights(ModelFolder.open(tmp_path).load("velocity"), first)


def test_a_packed_voice_can_be_given_anothers_aligner(tmp_path: Path) -> None:
    for name in ("velocity", "duration"):
        save(tmp_path / "model", name)
    heard = replace(FEATURES, mean=-4.0)  # other statistics do, another front end does not
    made = save(tmp_path / "other", "aligner", features=heard)
    pack(tmp_path / "model", tmp_path / "small")
    assert ModelFolder.open(tmp_path / "small").config.aligner is None
    pack(tmp_path / "model", tmp_path / "small", tmp_path / "other")
    small = ModelFolder.open(tmp_path / "small")
    assert small.features == FEATURES
    assert_same_weights(small.load("aligner"), made.half().float())
    save(tmp_path / "coarse", "aligner", features=replace(FEATURES, hop=320))
    with pytest.raises(UserError, match="hop"):
        pack(tmp_path / "model", tmp_path / "small", tmp_path / "coarse")
    reordered = PhoneTable(["<none>", "SIL", "B_S", "AA_S"])
    save(tmp_path / "foreign", "aligner", phones=reordered)
    with pytest.raises(UserError, match="another phone table"):
        pack(tmp_path / "model", tmp_path / "small", tmp_path / "foreign")


def test_packing_halves_a_voice_and_keeps_the_card(tmp_path: Path) -> None:
    made = {name: save(tmp_path / "model", name, seed) for seed, name in enumerate(NETWORKS)}
    target = tmp_path / "small"
    target.mkdir()
    (target / "README.md").write_text("A model card.")
    written = pack(tmp_path / "model", target)
    assert written == sorted(target.iterdir())
    assert (target / "README.md").read_text() == "A model card."
    whole, small = ModelFolder.open(tmp_path / "model"), ModelFolder.open(target)
    assert (small.config, small.phones, small.features) == (
        whole.config, whole.phones, whole.features
    )  # fmt: skip
    for name in NETWORKS:
        assert_same_weights(small.load(name), made[name].half().float())
        path = f"{name}.safetensors"
        saved = (tmp_path / "model" / path).stat().st_size - (target / path).stat().st_size
        n_weights = sum(value.numel() for value in made[name].state_dict().values())
        assert saved == pytest.approx(2 * n_weights, rel=0.01)


def test_a_packed_voice_packed_again_is_the_same(voice: Path, tmp_path: Path) -> None:
    first = pack(voice, tmp_path / "first")
    second = pack(tmp_path / "first", tmp_path / "second")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_half_a_voice_is_not_packed(tmp_path: Path) -> None:
    save(tmp_path / "model", "velocity")
    with pytest.raises(UserError, match="model has no duration network"):
        pack(tmp_path / "model", tmp_path / "small")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("wrong", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_are_not_packed(
    voice: Path, tmp_path: Path, wrong: float
) -> None:
    path = voice / "velocity.safetensors"
    weights = load_file(path)
    weights["output.bias"][0] = wrong
    save_file(weights, path)
    with pytest.raises(UserError, match="velocity has weights too large for half precision"):
        pack(voice, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_voice_is_a_folder_or_a_bundled_name(voice: Path) -> None:
    assert find_voice(voice) == find_voice(str(voice)) == voice
    assert find_voice("mini") == bundled_voices()["mini"]
    with pytest.raises(UserError, match=r"voice 'nobody' is neither .*bundled voices \(.*mini"):
        find_voice("nobody")
    with pytest.raises(UserError, match=r"voice '.*config\.yaml' is neither"):
        find_voice(voice / "config.yaml")


@pytest.mark.parametrize("name", bundled_voices())
def test_the_bundled_voice_opens_without_a_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    opened = ModelFolder.open(name)
    for network in opened.config.training:
        loaded = opened.load(network)
        assert all(w.isfinite().all() for w in loaded.state_dict().values())
        assert opened.config.training[network]["updates"] > 0


@pytest.mark.parametrize("name", bundled_voices())
def test_the_bundled_voice_is_small_and_holds_no_pickle(name: str) -> None:
    files = [p for p in bundled_voices()[name].rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 30e6
    assert {p.suffix for p in files} <= {".yaml", ".safetensors", ".json", ".md"}
    for network in ModelFolder.open(name).config.training:
        weights = load_file(bundled_voices()[name] / f"{network}.safetensors")
        assert {w.dtype for w in weights.values()} == {torch.float16}


@pytest.mark.parametrize("name", bundled_voices())
def test_the_bundled_voice_has_a_model_card(name: str) -> None:
    card = (bundled_voices()[name] / "README.md").read_text("utf-8")
    for said in ("LibriSpeech", "CC BY 4.0"):
        assert said in card
