"""Networks whose weights are downloaded, by `transformers`: read, and fed in batches.

Their files are found by `voiceflow.hub`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from voiceflow import hub
from voiceflow.config import UserError
from voiceflow.hub import FILES, Source, find, first_line
from voiceflow.measures.subject import fingerprint

__all__ = (
    "BATCH_SECONDS", "Source", "batches", "describe", "find", "frames", "library", "load", "read",
    "shortest",
)  # fmt: skip

BATCH_SECONDS = 60.0
# Trained with, never used by a network that only hears.
UNUSED = ("masked_spec_embed",)


def library(name: str = "transformers") -> Any:
    """An optional library, or UserError with the install line."""
    return hub.library(name, "pretrained scorers", "eval")


def load(source: Source, kind: str, device: str, unused: Sequence[str] = UNUSED) -> Any:
    """The network of class `kind`, in float32, for hearing only.

    unused: parts of weights' names that may be absent. UserError where the files are not all there,
    are pickles, or are of another network.
    """
    if not any(source.folder.glob("model*.safetensors*")):
        pickles = source.pickles()
        raise UserError(
            f"model '{source.name}' ({source.folder}) holds no model.safetensors"
            + (f" but {', '.join(pickles)}" if pickles else "")
            + ": pickled weights are not opened. Name a revision that has safetensors (NAME@"
            'REVISION), or, where you trust the pickle, convert it once: python -c "from '
            f"transformers import {kind} as M; M.from_pretrained('{source.name}', use_safetensors="
            "False).save_pretrained('FOLDER')\", copy the model's other .json and .txt files "
            "there, and give FOLDER"
        )
    network, told = read(source, kind, use_safetensors=True, output_loading_info=True)
    missing = sorted(k for k in told["missing_keys"] if not any(part in k for part in unused))
    if missing:
        raise UserError(
            f"model '{source.name}' ({source.folder}): its weights lack {len(missing)} that "
            f"{kind} has: {', '.join(missing[:5])}, ...: it is another network, or the download "
            "is not whole; get it again"
        )
    return network.float().to(device).eval().requires_grad_(False)


def read(source: Source, kind: str, **options: Any) -> Any:
    """What `transformers`' class `kind` makes of the files; UserError where it cannot."""
    made_by = getattr(library(), kind)
    try:
        return made_by.from_pretrained(str(source.folder), local_files_only=True, **options)
    # A missing file is an OSError or a TypeError, a cut one SafetensorError or ValueError, ...
    except Exception as error:
        raise UserError(
            f"model '{source.name}' ({source.folder}) cannot be read as {kind} "
            f"({first_line(error)}): expected all of the model's {', '.join(FILES[:3])} files; get "
            "it again, or check that it is such a model"
        ) from error


def describe(
    name: str, source: Source, kind: str, digest: str | None = None, **more: Any
) -> dict[str, Any]:
    """A scorer's settings; digest: of its weights, if they are not the source's."""
    return {
        "scorer": name,
        "model": source.name,
        "commit": source.commit,
        "fingerprint": digest or (None if source.commit else fingerprint(source.folder)),
        "network": kind,
        "transformers": metadata.version("transformers"),
        "dtype": "float32",
        **more,
    }


def batches(lengths: Sequence[int], most: float, *, padded: bool) -> Iterator[list[int]]:
    """Places of sounds that are heard together, the longest first.

    lengths: samples; most: samples of a batch, with its padding, if it is of more than one sound;
    padded: whether sounds of unlike lengths may stand in one.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch:
            longest = lengths[batch[0]]
            unlike = not padded and lengths[i] != longest
            if unlike or (len(batch) + 1) * longest > most:
                yield batch
                batch = []
        batch.append(i)
    if batch:
        yield batch


def frames(config: Any, samples: int) -> int:
    """How many frames the convolutions of a wav2vec 2.0 kind of network make; maybe none."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = max((samples - kernel) // stride + 1, 0)
    return samples


def shortest(config: Any, count: int = 1) -> int:
    """The fewest samples that make `count` frames: its receptive field, for one."""
    pairs = list(zip(config.conv_kernel, config.conv_stride, strict=True))
    for kernel, stride in reversed(pairs):
        count = (count - 1) * stride + kernel
    return count
