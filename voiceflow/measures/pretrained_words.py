"""Recognisers whose weights are downloaded, by `transformers`: HuBERT's and Whisper's WER.

Weights are safetensors, in a folder or on the Hugging Face Hub; pickles are not opened, since they
can run code. A name may hold a revision: `facebook/hubert-large-ls960-ft@refs/pr/1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError
from voiceflow.measures.heard import NORMALISER, word_metrics, word_score
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.speaker import INSTALL
from voiceflow.measures.subject import fingerprint
from voiceflow.measures.words import edits

BATCH_SECONDS = 60.0
# Not model*.safetensors: Whisper's repository holds a second copy, model.fp32-*.
FILES = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Trained with, never used by a network that only hears.
UNUSED = ("masked_spec_embed",)


@dataclass(frozen=True)
class Source:
    """A model's files. name: as it was asked for; commit: of the Hub, None for a folder."""

    name: str
    folder: Path
    commit: str | None

    @cached_property
    def fingerprint(self) -> str | None:
        """Of a folder's files; the Hub's have a commit."""
        return None if self.commit else fingerprint(self.folder)


def library(name: str = "transformers") -> Any:
    """An optional library, or UserError with the install line."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"pretrained scorers need {name}: {INSTALL}") from error


def find(model: str, files: Sequence[str] = FILES) -> Source:
    """A model in a folder, or from the Hub's cache or the Hub; UserError where it is in neither."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Source(model, folder, None)
    name, _, revision = model.partition("@")
    try:
        snapshot = library("huggingface_hub").snapshot_download(
            name, revision=revision or None, allow_patterns=list(files)
        )
    # No network, no such model, a name that cannot be one: the client's versions differ in what
    # they raise, and most of it has no base in common.
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"model '{model}' is no folder here, and the Hugging Face Hub did not give it "
            f"({_line(error)}): check the name and the network; without one, run `hf download "
            f"{name} --local-dir FOLDER` elsewhere and give that folder"
        ) from error
    return Source(model, Path(snapshot), Path(snapshot).name)


def load(source: Source, kind: str, device: str, unused: Sequence[str] = UNUSED) -> Any:
    """The network of class `kind`, in float32, for hearing only.

    unused: parts of weights' names that may be absent. UserError where the files are not all there,
    are pickles, or are of another network.
    """
    if not any(source.folder.glob("model*.safetensors*")):
        pickles = sorted(path.name for p in PICKLES for path in source.folder.glob(p))
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
            f"model '{source.name}' ({source.folder}) cannot be read as {kind} ({_line(error)}): "
            f"expected all of the model's {', '.join(FILES[:3])} files; get it again, or check "
            "that it is such a model"
        ) from error


def describe(
    name: str, source: Source, kind: str, digest: str | None = None, **more: Any
) -> dict[str, Any]:
    """A scorer's settings; digest: of its weights, if they are not the source's."""
    return {
        "scorer": name,
        "model": source.name,
        "commit": source.commit,
        "fingerprint": digest or source.fingerprint,
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


class HubertWords:
    """A recogniser without a language model: HuBERT large (Hsu et al. 2021), CTC, the best path.

    It was tuned on LibriSpeech's 960 h; Le et al. (2023) and many after them give this WER.
    Texts are compared in capitals, what is neither letter, figure nor apostrophe for a space.
    """

    kind = "HubertForCTC"

    def __init__(
        self,
        model: str = "facebook/hubert-large-ls960-ft",
        device: str = "cpu",
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        self.source = find(model)
        self._network = load(self.source, self.kind, device)
        self._extractor = read(self.source, "Wav2Vec2FeatureExtractor")
        self._tokenizer = read(self.source, "Wav2Vec2CTCTokenizer")
        self._device, self._most = device, batch_seconds * SAMPLE_RATE
        config = self._network.config
        # With group normalisation over time, padding would change what is heard of a sound.
        self.padded = config.feat_extract_norm == "layer" and self._extractor.return_attention_mask
        self._shortest = shortest(config)

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """WER and CER, at corpus level."""
        return word_metrics("hubert")

    def settings(self) -> dict[str, Any]:
        """The model, how it is decoded, and how texts are compared."""
        return describe(
            "hubert", self.source, self.kind, decoding="CTC, best path", normaliser="capitals, "
            "all but letters, figures and apostrophes for a space",
        )  # fmt: skip

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """Edits of words and of characters, and the hypothesis, of each whole wave."""
        scores: list[Score] = []
        for sound, logits in zip(sounds, self.logits([s.wave for s in sounds]), strict=True):
            hypothesis = self._tokenizer.decode(logits.argmax(-1).tolist()) if len(logits) else ""
            said, heard = in_capitals(sound.text), in_capitals(hypothesis)
            scores.append({
                "word_errors": float(edits(said.split(), heard.split())),
                "words": float(len(said.split())),
                "character_errors": float(edits(list(said), list(heard))),
                "characters": float(len(said)),
                "hypothesis": hypothesis,
            })  # fmt: skip
        return scores

    def logits(self, waves: Sequence[np.ndarray]) -> list[Tensor]:
        """(frames, symbols) of each wave (n,); no frames where it is below 25 ms."""
        config = self._network.config
        found = [torch.empty(0, config.vocab_size) for _ in waves]
        heard = [i for i, wave in enumerate(waves) if len(wave) >= self._shortest]
        for batch in batches([len(waves[i]) for i in heard], self._most, padded=self.padded):
            places = [heard[i] for i in batch]
            inputs = self._extractor(
                [waves[i] for i in places],
                sampling_rate=SAMPLE_RATE,
                padding=True,
                return_attention_mask=self.padded,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                logits = self._network(**inputs).logits.cpu()
            for i, one in zip(places, logits, strict=True):
                found[i] = one[: frames(config, len(waves[i]))]
        return found


class WhisperWords:
    """Whisper (Radford et al. 2022), greedy, told that it is English; its own normaliser.

    What is longer than the network's 30 s is not heard in parts: how those are cut and joined would
    be a measure of its own. Its numbers are None, and `reason` says so.
    """

    kind = "WhisperForConditionalGeneration"

    def __init__(
        self,
        model: str = "openai/whisper-large-v3",
        device: str = "cpu",
        batch_seconds: float = 8 * 30.0,
    ) -> None:
        self.source = find(model)
        if not (self.source.folder / "generation_config.json").is_file():
            raise UserError(
                f"model '{model}' ({self.source.folder}) has no generation_config.json, which "
                "holds the languages' symbols: get it again, with all of its .json files"
            )
        self._network = load(self.source, self.kind, device, unused=())
        self._extractor = read(self.source, "WhisperFeatureExtractor")
        self._tokenizer = read(self.source, "WhisperTokenizer")
        self._device = device
        # Every sound is padded to the network's length, whatever stands beside it.
        self.longest: int = self._extractor.n_samples
        self._count = max(1, int(batch_seconds * SAMPLE_RATE / self.longest))
        several = getattr(self._network.generation_config, "is_multilingual", True)
        self._told = {"language": "en", "task": "transcribe"} if several else {}

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """WER at corpus level, and the mean of the utterances' WERs."""
        return {
            "WER (whisper)": word_metrics("whisper")["WER (whisper)"],
            "WER (whisper, mean of utterances)": Metric.mean("wer", "lower", "%"),
        }

    def settings(self) -> dict[str, Any]:
        """The model, how it is decoded, and how texts are compared."""
        return describe(
            "whisper", self.source, self.kind, decoding={"search": "greedy", **self._told},
            normaliser=NORMALISER, normaliser_version=metadata.version("whisper-normalizer"),
            longest_seconds=self.longest / SAMPLE_RATE,
        )  # fmt: skip

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """As `HubertWords`, and wer, errors over words; None for what is too long."""
        heard = [i for i, sound in enumerate(sounds) if 0 < len(sound.wave) <= self.longest]
        texts = dict.fromkeys(range(len(sounds)), "")
        for first in range(0, len(heard), self._count):
            places = heard[first : first + self._count]
            hypotheses = self._hear([sounds[i].wave for i in places])
            texts.update(zip(places, hypotheses, strict=True))
        return [self._score(sound, texts[i]) for i, sound in enumerate(sounds)]

    def _score(self, sound: Sound, hypothesis: str) -> Score:
        score = word_score(sound.text, hypothesis)
        errors, words = score["word_errors"], score["words"]
        assert isinstance(errors, float) and isinstance(words, float)
        score["wer"] = errors / words if words else None
        if len(sound.wave) > self.longest:
            seconds = self.longest / SAMPLE_RATE
            return {**dict.fromkeys(score), "reason": f"longer than {seconds:g} s"}
        return score

    def _hear(self, waves: Sequence[np.ndarray]) -> list[str]:
        inputs = self._extractor(
            list(waves), sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            symbols = self._network.generate(**inputs, do_sample=False, num_beams=1, **self._told)
        found = self._tokenizer.batch_decode(symbols.cpu(), skip_special_tokens=True)
        return [text.strip() for text in found]


def in_capitals(text: str) -> str:
    """Words in capitals, one space between: `It's “well-known”` is IT'S WELL KNOWN."""
    return " ".join(re.sub(r"[^\w']|_", " ", text.replace("’", "'").upper()).split())


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
