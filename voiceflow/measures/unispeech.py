"""The papers' likeness: WavLM large with an ECAPA-TDNN head, as UniSpeech has it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voiceflow.config import UserError
from voiceflow.measures.hub import BATCH_SECONDS, describe, find, library, read, shortest
from voiceflow.measures.pretrained_voices import SpeakerScorer

CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file as s; s({k: v.clone() for k, '
    "v in torch.load('wavlm_large_finetune.pth', map_location='cpu', weights_only=True)['model']"
    ".items()}, 'wavlm_large_finetune.safetensors')\""
)
# Patterns in our names, and what stands for them in the file, one after the other.
_WAVLM = (
    (r"^", "feature_extract.model."),
    (r"(conv_layers\.\d+)\.conv", r"\1.0"),
    (r"(conv_layers\.\d+)\.layer_norm", r"\1.2.1"),
    (r"feature_projection\.layer_norm", "layer_norm"),
    (r"feature_projection\.projection", "post_extract_proj"),
    (r"pos_conv_embed\.conv", "pos_conv.0"),
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
    (r"(\.layers\.\d+)\.layer_norm", r"\1.self_attn_layer_norm"),
    (r"\.attention\.", ".self_attn."),
    (r"gru_rel_pos_linear", "grep_linear"),
    (r"gru_rel_pos_const", "grep_a"),
    (r"rel_attn_embed", "relative_attention_bias"),
    (r"feed_forward\.intermediate_dense", "fc1"),
    (r"feed_forward\.output_dense", "fc2"),
)
_HEAD = (
    (r"^weight$", "feature_weight"),
    (r"groups\.(\d+)\.conv", r"Res2Conv1dReluBn.convs.\1"),
    (r"groups\.(\d+)\.norm", r"Res2Conv1dReluBn.bns.\1"),
    (r"norm\.", "bn."),
    (r"^first\.", "layer1."),
    (r"^blocks\.(\d)", lambda found: f"layer{int(found[1]) + 2}"),
    (r"\.before\.", ".Conv1dReluBn1."),
    (r"\.after\.", ".Conv1dReluBn2."),
    (r"\.squeeze\.", ".SE_Connect.linear1."),
    (r"\.excite\.", ".SE_Connect.linear2."),
    (r"^join\.", "conv."),
    (r"\.inner\.", ".linear1."),
    (r"\.outer\.", ".linear2."),
    (r"^out\.", "linear."),
)
_NOT_NEEDED = re.compile(r"loss_calculator\.|.*\.num_batches_tracked$|.*\.mask_emb$")


class UniSpeechSpeaker(SpeakerScorer):
    """The papers' network: WavLM large, its layers weighed, below an ECAPA-TDNN (256 numbers).

    Chen et al. (2022) and `downstreams/speaker_verification` of
    github.com/microsoft/UniSpeech, which links `wavlm_large_finetune.pth`. That is a pickle:
    `CONVERT` makes safetensors of it. model: that file, or a folder that holds it alone; wavlm:
    folder or name of the WavLM that it was made of, only for its config.json, which is first looked
    for beside the weights.

    Names expected in the file, all of them, and no others but `loss_calculator.*` (the classes that
    it was trained on) and counts of batches:

        feature_weight                                              (layers + 1,)
        feature_extract.model.*                                     WavLM, as microsoft/unilm has it
            mask_emb (may be absent), layer_norm, post_extract_proj
            feature_extractor.conv_layers.{i}.0, .2.1               convolution, norm
            encoder.pos_conv.0.{weight_g,weight_v,bias}
            encoder.layers.{i}.self_attn.{q,k,v,out}_proj, .grep_linear, .grep_a
            encoder.layers.0.self_attn.relative_attention_bias.weight
            encoder.layers.{i}.{self_attn_layer_norm,fc1,fc2,final_layer_norm}
            encoder.layer_norm
        layer1.{conv,bn}                                            kernel 5, to 512 channels
        layer{2,3,4}.{Conv1dReluBn1,Conv1dReluBn2}.{conv,bn}        kernel 1
        layer{2,3,4}.Res2Conv1dReluBn.{convs,bns}.{0..6}            64 channels, dilation 2, 3, 4
        layer{2,3,4}.SE_Connect.linear{1,2}                         128 between
        conv                                                        3 x 512 to 1536
        pooling.linear{1,2}                                         kernel 1, 128 between
        bn, linear                                                  2 x 1536 to 256

    Not verified: these names, and the sizes, are as published to the best of our knowledge, and the
    file itself was not at hand. That every name and shape must fit is what guards against error;
    before figures are published, compare a pair's cosine with that of the original code.
    """

    name = "unispeech"
    kind = "WavLM and ECAPA-TDNN"

    def __init__(
        self,
        model: str = "",
        device: str = "cpu",
        batch_seconds: float = BATCH_SECONDS,
        wavlm: str = "",
    ) -> None:
        super().__init__(device, batch_seconds)
        self.weights = _weights_file(model)
        if not wavlm:
            beside = (self.weights.parent / "config.json").is_file()
            wavlm = str(self.weights.parent) if beside else "microsoft/wavlm-large"
        self.source = find(wavlm, ("config.json",))
        config = read(self.source, "WavLMConfig")
        # Without masks in training there is no vector for what is masked.
        config.mask_time_prob = config.mask_feature_prob = 0.0
        network = WavLMEcapa(library().WavLMModel(config))
        load_weights(network, self.weights)
        self._network = network.float().to(device).eval().requires_grad_(False)
        # Instance normalisation needs two frames.
        self.shortest = shortest(config, 2)

    def settings(self) -> dict[str, Any]:
        """The weights, and what stands for a sound."""
        with self.weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        told = describe(
            self.name, self.source, self.kind, digest=digest,
            pooling="attentive statistics, cosine",
        )  # fmt: skip
        # The commit is of the configuration.
        return {**told, "model": str(self.weights), "wavlm": self.source.name}

    def _hear(self, waves: Tensor) -> Tensor:
        found: Tensor = self._network(waves)
        return found


class WavLMEcapa(nn.Module):
    """ECAPA-TDNN (Desplanques et al. 2020) of a weighted sum of WavLM's layers."""

    def __init__(self, wavlm: Any, channels: int = 512, size: int = 256) -> None:
        super().__init__()
        self.wavlm = wavlm
        self.weight = nn.Parameter(torch.zeros(wavlm.config.num_hidden_layers + 1))
        self.first = _Convolution(wavlm.config.hidden_size, channels, 5)
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in (2, 3, 4))
        self.join = nn.Conv1d(3 * channels, 1536, 1)
        self.pooling = _AttentiveStatistics(1536, 128)
        self.norm = nn.BatchNorm1d(2 * 1536)
        self.out = nn.Linear(2 * 1536, size)

    def forward(self, waves: Tensor) -> Tensor:
        """(B, 256) of waves (B, n), each normalised to mean 0 and deviation 1."""
        heard = self.wavlm(F.layer_norm(waves, waves.shape[-1:]), output_hidden_states=True)
        # With its last layer normalised, which not all versions count among the hidden states.
        states = torch.stack([*heard.hidden_states[:-1], heard.last_hidden_state])  # (L, B, T, D)
        x = torch.einsum("l,lbtd->bdt", self.weight.softmax(0), states)
        x = self.first(F.instance_norm(x))
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        x = self.join(torch.cat(outputs, 1)).relu()
        embedding: Tensor = self.out(self.norm(self.pooling(x)))
        return embedding


class _Convolution(nn.Module):
    """Convolution, ReLU, batch normalisation, in this order: (B, C, T) to (B, D, T)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=padding, dilation=dilation)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.conv(x).relu())
        return found


class _Block(nn.Module):
    """Res2Net's convolutions of scale 8 between two of kernel 1, squeezed and excited, and added.

    Of eight groups of channels each but the last is convolved, with what came of the one before.
    """

    def __init__(self, channels: int, dilation: int, scale: int = 8) -> None:
        super().__init__()
        self.before = _Convolution(channels, channels, 1)
        width = channels // scale
        self.groups = nn.ModuleList(
            _Convolution(width, width, 3, dilation) for _ in range(scale - 1)
        )
        self.after = _Convolution(channels, channels, 1)
        self.squeeze = nn.Linear(channels, 128)
        self.excite = nn.Linear(128, channels)

    def forward(self, x: Tensor) -> Tensor:
        *parts, last = self.before(x).chunk(len(self.groups) + 1, 1)
        done: list[Tensor] = []
        for convolution, part in zip(self.groups, parts, strict=True):
            done.append(convolution(part + done[-1] if done else part))
        y = self.after(torch.cat([*done, last], 1))
        gate = self.excite(self.squeeze(y.mean(2)).relu()).sigmoid()
        found: Tensor = x + y * gate[:, :, None]
        return found


class _AttentiveStatistics(nn.Module):
    """Mean and deviation over time, weighed for each channel: (B, C, T) to (B, 2 C)."""

    def __init__(self, channels: int, between: int) -> None:
        super().__init__()
        self.inner = nn.Conv1d(channels, between, 1)
        self.outer = nn.Conv1d(between, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.outer(self.inner(x).tanh()).softmax(2)
        mean = (weights * x).sum(2)
        variance = (weights * x**2).sum(2) - mean**2
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], 1)


def name_in_file(name: str) -> str:
    """What the published file calls a weight of `WavLMEcapa`."""
    own = name.removeprefix("wavlm.")
    for pattern, other in _HEAD if own == name else _WAVLM:
        own = re.sub(pattern, other, own)
    return own


def load_weights(network: WavLMEcapa, path: Path) -> None:
    """Fill the network; UserError names what the file lacks, has besides, or otherwise."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        file = {k: v for k, v in load_file(path).items() if not _NOT_NEEDED.match(k)}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}): make it anew by {CONVERT}"
        ) from error
    own = {k: v for k, v in network.state_dict().items() if not _NOT_NEEDED.match(k)}
    names = {name_in_file(name): name for name in own}
    wrong = {
        "lacks": [name for name in names if name not in file],
        "has besides": [name for name in file if name not in names],
        "has in another shape": [
            f"{name} {tuple(file[name].shape)}, expected {tuple(own[ours].shape)}"
            for name, ours in names.items()
            if name in file and file[name].shape != own[ours].shape
        ],
    }
    if any(wrong.values()):
        told = "; ".join(
            f"{what} {len(found)}: {', '.join(sorted(found)[:8])}" + ", ..." * (len(found) > 8)
            for what, found in wrong.items()
            if found
        )
        raise UserError(f"{path} is not UniSpeech's WavLM and ECAPA-TDNN: it {told}")
    network.load_state_dict({ours: file[name] for name, ours in names.items()}, strict=False)


def _weights_file(model: str) -> Path:
    """The one safetensors file that is named, or lies in the folder that is."""
    path = Path(model).expanduser()
    found = sorted(path.glob("*.safetensors")) if model and path.is_dir() else [path]
    if model and len(found) == 1 and found[0].is_file() and found[0].suffix == ".safetensors":
        return found[0]
    raise UserError(
        f"UniSpeech's speaker network needs its weights, found {model or 'no name'!r}: expected a "
        "safetensors file or a folder with one. Take wavlm_large_finetune.pth from "
        "github.com/microsoft/UniSpeech (downstreams/speaker_verification), convert it, if you "
        f"trust it, by {CONVERT}, and give that file"
    )
