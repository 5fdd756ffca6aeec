"""Small random networks of the public vocoders, and what the public packages made of them.

The golden files hold the networks, what they were given and what came out, computed by the public
packages vocos 0.1.0 and bigvgan 2.4.1 of PyPI (MIT), and each package's log-mel of a noise. They
are written anew, where both packages are installed without their dependencies, by

    python -m tests.vocoders.public
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.vocoders.pretrained import (
    PretrainedVocoder,
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


def mel(vocoder: PretrainedVocoder, n_frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_frames, vocoder.spec.n_mels, generator=generator) - 3


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
