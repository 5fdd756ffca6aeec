"""Recognisers whose weights are downloaded, by `transformers`: HuBERT's and Whisper's WER."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError
from voiceflow.measures.heard import NORMALISER, word_metrics, word_score
from voiceflow.measures.hub import (
    BATCH_SECONDS,
    batches,
    describe,
    find,
    frames,
    load,
    read,
    shortest,
)
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.words import edits


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
