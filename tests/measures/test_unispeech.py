"""WavLM with ECAPA's head: the published file's names, and the network by its formulas."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.measures.untrained import noise
from voiceflow.config import UserError
from voiceflow.measures.unispeech import UniSpeechSpeaker, name_in_file

pytestmark = pytest.mark.usefixtures("offline")


def test_names_in_the_published_file(unispeech_folder: Path) -> None:
    """As they are known to us; the file itself was not at hand."""
    names = set(load_file(unispeech_folder / "wavlm_large_finetune.safetensors"))
    model = "feature_extract.model."
    assert {
        "feature_weight", "layer1.conv.weight", "layer1.bn.running_mean", "conv.bias", "bn.weight",
        "layer2.Conv1dReluBn1.conv.bias", "layer4.Conv1dReluBn2.bn.running_var", "linear.weight",
        "layer3.Res2Conv1dReluBn.convs.6.weight", "layer3.Res2Conv1dReluBn.bns.0.bias",
        "layer2.SE_Connect.linear1.weight", "pooling.linear1.weight", "pooling.linear2.bias",
        model + "feature_extractor.conv_layers.0.0.weight", model + "layer_norm.weight",
        model + "feature_extractor.conv_layers.6.2.1.bias", model + "post_extract_proj.bias",
        model + "encoder.pos_conv.0.weight_g", model + "encoder.pos_conv.0.weight_v",
        model + "encoder.pos_conv.0.bias", model + "encoder.layer_norm.weight",
        model + "encoder.layers.0.self_attn.relative_attention_bias.weight",
        model + "encoder.layers.1.self_attn.grep_linear.weight",
        model + "encoder.layers.1.self_attn.grep_a", model + "encoder.layers.1.fc1.weight",
        model + "encoder.layers.1.self_attn.k_proj.weight", model + "encoder.layers.1.fc2.bias",
        model + "encoder.layers.0.self_attn_layer_norm.weight",
        model + "encoder.layers.0.final_layer_norm.weight",
    } <= names  # fmt: skip
    assert name_in_file("wavlm.encoder.layers.3.layer_norm.bias") == (
        model + "encoder.layers.3.self_attn_layer_norm.bias"
    )


def ecapa(file: Mapping[str, Tensor], states: Tensor) -> Tensor:
    """(B, 256) of WavLM's states (L, B, T, D), straight down and by the file's names."""

    def normal(x: Tensor, name: str) -> Tensor:
        return F.batch_norm(
            x, file[name + ".running_mean"], file[name + ".running_var"],
            file[name + ".weight"], file[name + ".bias"],
        )  # fmt: skip

    def convolved(x: Tensor, conv: str, norm: str = "", dilation: int = 1) -> Tensor:
        w = file[conv + ".weight"]
        padding = dilation * (w.shape[2] // 2)
        x = F.conv1d(x, w, file[conv + ".bias"], padding=padding, dilation=dilation)
        return normal(F.relu(x), norm) if norm else x

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, file[name + ".weight"], file[name + ".bias"])

    weights = file["feature_weight"].exp() / file["feature_weight"].exp().sum()
    x = (weights[:, None, None, None] * states).sum(0).transpose(1, 2)
    x = (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    x = convolved(x, "layer1.conv", "layer1.bn")
    outputs = []
    for dilation, layer in ((2, "layer2."), (3, "layer3."), (4, "layer4.")):
        y = convolved(x, layer + "Conv1dReluBn1.conv", layer + "Conv1dReluBn1.bn")
        groups = list(y.split(64, 1))
        for i in range(7):
            own = groups[i] + groups[i - 1] if i else groups[i]
            inner = layer + "Res2Conv1dReluBn."
            groups[i] = convolved(own, f"{inner}convs.{i}", f"{inner}bns.{i}", dilation)
        y = convolved(
            torch.cat(groups, 1), layer + "Conv1dReluBn2.conv", layer + "Conv1dReluBn2.bn"
        )
        gate = linear(F.relu(linear(y.mean(2), layer + "SE_Connect.linear1")),
                      layer + "SE_Connect.linear2")  # fmt: skip
        x = x + y * torch.sigmoid(gate)[:, :, None]
        outputs.append(x)
    x = F.relu(convolved(torch.cat(outputs, 1), "conv"))
    scores = convolved(torch.tanh(convolved(x, "pooling.linear1")), "pooling.linear2")
    alpha = torch.softmax(scores, 2)
    mean = (alpha * x).sum(2, keepdim=True)
    deviation = (alpha * (x - mean) ** 2).sum(2).clamp(min=1e-9).sqrt()
    return linear(normal(torch.cat([mean[:, :, 0], deviation], 1), "bn"), "linear")


def test_ecapa_by_its_formulas(unispeech_folder: Path) -> None:
    scorer = UniSpeechSpeaker(str(unispeech_folder))
    wave = noise(1.0, 0)
    wavlm = scorer._network.wavlm
    normal = torch.tensor((wave - wave.mean()) / np.sqrt(wave.var() + 1e-5))[None]
    states: list[Tensor] = []
    for layer in wavlm.encoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    with torch.inference_mode():
        states.append(wavlm(normal).last_hidden_state)
        file = load_file(unispeech_folder / "wavlm_large_finetune.safetensors")
        expected = ecapa(file, torch.stack(states))[0]
    assert len(states) == 3
    (found,) = scorer.vectors([wave])
    assert found is not None and found.shape == (256,)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_weights_of_another_network(unispeech_folder: Path, tmp_path: Path) -> None:
    weights = load_file(unispeech_folder / "wavlm_large_finetune.safetensors")
    del weights["layer2.SE_Connect.linear1.bias"]
    weights["layer5.conv.weight"] = torch.zeros(1)
    weights["feature_weight"] = torch.zeros(25)
    save_file(weights, tmp_path / "x.safetensors")
    shutil.copy(unispeech_folder / "config.json", tmp_path)
    with pytest.raises(UserError) as caught:
        UniSpeechSpeaker(str(tmp_path / "x.safetensors"))
    assert str(caught.value).endswith(
        "it lacks 1: layer2.SE_Connect.linear1.bias; has besides 1: layer5.conv.weight; has in "
        "another shape 1: feature_weight (25,), expected (3,)"
    )
    (tmp_path / "x.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        UniSpeechSpeaker(str(tmp_path))


def test_unispeech_without_its_weights(unispeech_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wavlm_large_finetune.pth").touch()
    for model in ("", str(tmp_path), str(tmp_path / "wavlm_large_finetune.pth")):
        with pytest.raises(UserError, match="weights_only=True"):
            UniSpeechSpeaker(model)
    file = str(shutil.copy(unispeech_folder / "wavlm_large_finetune.safetensors", tmp_path))
    with pytest.raises(UserError, match="'microsoft/wavlm-large' is no folder here"):
        UniSpeechSpeaker(file)
    settings = UniSpeechSpeaker(file, wavlm=str(unispeech_folder)).settings()
    assert settings["model"] == file and settings["wavlm"] == str(unispeech_folder)
