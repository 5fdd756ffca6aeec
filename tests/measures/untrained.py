"""Untrained networks of the pretrained scorers' classes, as model folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from voiceflow.measures.scorer import Sound
from voiceflow.measures.unispeech import WavLMEcapa, name_in_file

transformers = pytest.importorskip("transformers")
CONVOLUTIONS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SYMBOLS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"EABCDFGHIJKLMNOPQRSTUVWXYZ'")
WHISPERS = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


def noise(seconds: float, seed: int) -> np.ndarray:
    """(n,) white noise, mono at 16 kHz."""
    random = np.random.default_rng(seed)
    return random.normal(0, 0.1, round(seconds * 16000)).astype(np.float32)


def sound(wave: np.ndarray, text: str = "", **more: Any) -> Sound:
    return Sound("trial", wave, text, (0, len(wave)), **more)


def save(folder: Path, *parts: Any) -> Path:
    """A model folder of a network, and what else goes with it."""
    for part in parts:
        part.save_pretrained(folder)
    return folder


def extractor(mask: bool) -> Any:
    return transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask)


def hubert(folder: Path, always: str = "", **config: Any) -> Path:
    """A HuBERT; always: the one letter that it hears."""
    torch.manual_seed(0)
    network = transformers.HubertForCTC(
        transformers.HubertConfig(
            vocab_size=len(SYMBOLS), **CONVOLUTIONS, **{**LAYER_NORM, **config}
        )
    )
    network.lm_head.weight.data.normal_(0, 1)
    if always:
        network.lm_head.weight.data.zero_()
        network.lm_head.bias.data[SYMBOLS.index(always)] = 1.0
    folder.mkdir()
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({s: i for i, s in enumerate(SYMBOLS)}), "utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(vocabulary))
    return save(folder, network, tokenizer, extractor("feat_extract_norm" not in config))


def unispeech(folder: Path) -> Path:
    """Weights by the published names, as a whole checkpoint has them, and WavLM's config.json."""
    torch.manual_seed(0)
    config = transformers.WavLMConfig(
        **CONVOLUTIONS, **LAYER_NORM, num_buckets=32, max_bucket_distance=64, mask_time_prob=0.0
    )
    network = WavLMEcapa(transformers.WavLMModel(config))
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and "wavlm" not in name:
            weight.copy_(torch.rand_like(weight) * 0.2 + (0.5 if "norm" in name else -0.1))
    weights = {name_in_file(k): v.clone() for k, v in network.state_dict().items()}
    weights["loss_calculator.projection.weight"] = torch.zeros(5, 256)
    weights["feature_extract.model.mask_emb"] = torch.zeros(16)
    save_file(weights, folder / "wavlm_large_finetune.safetensors")
    config.mask_time_prob = 0.05
    config.save_pretrained(folder)
    return folder
