"""Low-rank adapters (LoRA, Hu et al. 2022), by peft: a voice's layers W + (alpha / rank) B A.

W is frozen, A and B are trained. What a run gives is merged: plain weights, no peft.
"""

from __future__ import annotations

from torch import Tensor, nn

from voiceflow.config import TrainConfig, UserError
from voiceflow.models.aligner import PhoneRecogniser

# Of the Transformer: attention, feed-forward, skips; of the recogniser: the linear layers.
ADAPTED = r".*\.(qkv|out|up|down|skips\.\d+)"
INSTALL = "pip install -e '.[finetune]'"
_INNER, _ADAPTER = ".base_layer.", ".lora_"


def adapt(network: nn.Module, options: TrainConfig) -> nn.Module:
    """The network with adapters in its linear layers, nothing else trained; as it is for rank 0.

    Where phones were added, what the network holds of each phone is trained too. Fresh adapters
    change no output (B is zero). Raises UserError for a rank below zero, where no voice is named
    to adapt, and, with the install line, where peft is missing.
    """
    if options.lora_rank == 0:
        return network
    if options.lora_rank < 0:
        raise UserError(f"train.lora_rank must be 0 (none) or more, found {options.lora_rank}")
    if options.init_from is None:
        raise UserError("train.lora_rank adapts a voice: name it, train.init_from=mini")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(f"train.lora_rank needs peft: {INSTALL}") from error
    lora = LoraConfig(
        r=options.lora_rank,
        lora_alpha=alpha(options),  # type: ignore[arg-type]  # any number is one to peft
        target_modules=ADAPTED,
    )
    adapted: nn.Module = inject_adapter_in_model(lora, network)
    if options.extend_phones:
        for name, parameter in adapted.named_parameters():
            if name in of_phones(adapted):
                parameter.requires_grad_(True)
    return adapted


def alpha(options: TrainConfig) -> float:
    """The numerator of the adapters' scale: twice the rank where none is given."""
    return options.lora_alpha or 2 * options.lora_rank


def merged(weights: dict[str, Tensor], options: TrainConfig) -> dict[str, Tensor]:
    """An adapted network's weights or averages as those of a plain one; others as they are."""
    plain: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        layer, inner, kind = name.rpartition(_INNER)
        if not inner and _ADAPTER not in name:
            plain[name] = tensor
        elif inner and kind == "weight":
            a, b = (weights[f"{layer}.lora_{part}.default.weight"] for part in "AB")
            plain[f"{layer}.{kind}"] = tensor + alpha(options) / options.lora_rank * (b @ a)
        elif inner:
            plain[f"{layer}.{kind}"] = tensor
    return plain


def of_phones(network: nn.Module) -> tuple[str, ...]:
    """The names of the tensors that have a row for each phone."""
    if isinstance(network, PhoneRecogniser):
        return "output.weight", "output.bias", "log_prior"
    return ("phone.weight",)
