"""Scorers of what is heard: words, and phones, by listeners that come with the installation."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.features import LogMel
from voiceflow.audio.io import resample
from voiceflow.config import UserError
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.subject import ALIGNER, fingerprint
from voiceflow.measures.words import (
    PhoneRecogniser,
    WordRecogniser,
    edits,
    longest_common,
    normalised,
    phones_within,
)
from voiceflow.model_folder import ModelFolder
from voiceflow.models import aligner as models
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import base_of

# A recogniser taught frame by frame flickers: on test-clean a nat a change takes insertions from 14
# to 5 % of the phones, the error rate from 38 to 32 %.
CHANGE_COST = 1.0
NORMALISER = "whisper-normalizer EnglishTextNormalizer"


def word_score(text: str, hypothesis: str) -> Score:
    """Edits of words and of characters, the texts normalised as `word_errors` does."""
    said, heard = normalised(text), normalised(hypothesis)
    return {
        "word_errors": float(edits(said.split(), heard.split())),
        "words": float(len(said.split())),
        "character_errors": float(edits(list(said), list(heard))),
        "characters": float(len(said)),
        "hypothesis": hypothesis,
    }


def word_metrics(name: str) -> dict[str, Metric]:
    """WER and CER of a listener, at corpus level."""
    return {
        f"WER ({name})": Metric.ratio("word_errors", "words", "lower"),
        f"CER ({name})": Metric.ratio("character_errors", "characters", "lower"),
    }


class PocketsphinxWords:
    """Free recognition by pocketsphinx; with `transcripts`, by a language model of those alone.

    The second (closed-lm) knows all that may be said, so its errors are few and not to be compared
    with those of a free recogniser.
    """

    def __init__(self, transcripts: Sequence[str] | None = None) -> None:
        self.closed = transcripts is not None
        self._recogniser = WordRecogniser()
        if transcripts is not None:
            sentences = [words_of(text) for text in transcripts]
            with tempfile.TemporaryDirectory() as folder:
                model, words = Path(folder, "closed.lm"), Path(folder, "closed.dict")
                model.write_text(bigrams(sentences), "ascii")
                words.write_text(dictionary(sentences), "ascii")
                self._recogniser = WordRecogniser(str(model), str(words))

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """WER and CER."""
        return word_metrics("pocketsphinx closed-lm" if self.closed else "pocketsphinx")

    def settings(self) -> dict[str, Any]:
        """The library's version, and which language model."""
        return {
            "version": metadata.version("pocketsphinx"),
            "acoustic_model": "en-us",
            "language_model": "bigrams of the trials' texts" if self.closed else "en-us",
            "normaliser": NORMALISER,
            "aggregation": "corpus",
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """Errors of the whole wave against the whole text."""
        return [word_score(s.text, self._recogniser.recognise(s.wave)) for s in sounds]


def bigrams(sentences: Sequence[Sequence[str]], discount: float = 0.5) -> str:
    """An ARPA language model of pairs of words, with absolute discounting (Ney et al. 1994)."""
    singles: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for sentence in sentences:
        told = ["<s>", *(word.lower() for word in sentence), "</s>"]
        singles.update(told[1:])
        pairs.update(pairwise(told))
    total = sum(singles.values())
    contexts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for (first, _), count in pairs.items():
        contexts[first] += count
        kinds[first] += 1
    unigrams = {word: count / total for word, count in singles.items()}

    def backoff(word: str) -> float:
        if not contexts[word]:
            return 1.0
        followed = sum(unigrams[second] for first, second in pairs if first == word)
        left = discount * kinds[word] / contexts[word]
        return left / (1 - followed) if followed < 1 else left

    weights = {word: backoff(word) for word in sorted({*unigrams, "<s>"})}
    lines = ["\\data\\", f"ngram 1={len(weights)}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    for word, weight in weights.items():
        probability = unigrams.get(word, 1e-10)
        lines.append(f"{_log10(probability):.4f} {word} {_log10(weight):.4f}")
    lines += ["", "\\2-grams:"]
    for (first, second), count in sorted(pairs.items()):
        lines.append(f"{_log10((count - discount) / contexts[first]):.4f} {first} {second}")
    return "\n".join([*lines, "", "\\end\\", ""])


def _log10(value: float) -> float:
    return math.log10(max(value, 1e-10))


def dictionary(sentences: Sequence[Sequence[str]]) -> str:
    """The words' pronunciations as pocketsphinx reads them."""
    lexicon = english_lexicon()
    lines = []
    for word in sorted({word for sentence in sentences for word in sentence}):
        for number, phones in enumerate(lexicon.pronunciations(word)):
            name = word.lower() if number == 0 else f"{word.lower()}({number + 1})"
            lines.append(f"{name} {' '.join(phones)}")
    return "\n".join([*lines, ""])


class Matching:
    """Whether pocketsphinx's aligner prefers the right transcript to all rivals."""

    def __init__(self) -> None:
        self._aligner = PocketsphinxAligner()

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """The share of sounds that are matched."""
        return {"matching": Metric.mean("matched", "higher", "%")}

    def settings(self) -> dict[str, Any]:
        """The library's version, and the rivals."""
        return {"version": metadata.version("pocketsphinx"), "rivals": "nearest in length"}

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """matched: 1 or 0; margin: nats per frame by which the right transcript leads."""
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Sound) -> Score:
        if not sound.rivals:
            return {"matched": None, "margin": None}
        right = self._aligner.score(sound.wave, words_of(sound.text))
        best = max(self._aligner.score(sound.wave, list(words)) for words in sound.rivals)
        margin = right - best if math.isfinite(right) and math.isfinite(best) else None
        return {"matched": float(right > best), "margin": margin}


class Phones:
    """Phone error rates, by pocketsphinx's decoder of phones and by a trained recogniser (ctc).

    Against the dictionary's first pronunciation of each word, without silences. Of an infill, also
    the share of the gap's phones that pocketsphinx finds in order in it. voice: the folder whose
    aligner is the trained recogniser; it learnt from recordings alone, but where it learnt from
    the very speakers that the voice did, it may be kind to it: its fingerprint stands in the
    settings.
    """

    def __init__(self, voice: str | Path = "mini") -> None:
        self._sphinx = PhoneRecogniser()
        folder = ModelFolder.open(voice)
        self._folder = folder.path
        network = folder.load("aligner")
        assert isinstance(network, models.PhoneRecogniser)
        self._network = network.eval()
        self._features = folder.features
        self._log_mel = LogMel(folder.features)
        self._symbols = folder.phones.bases()

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """Rates at corpus level, and the phones found in gaps."""
        return {
            "PER (ctc)": Metric.ratio("ctc_errors", "phones", "lower"),
            "PER (pocketsphinx)": Metric.ratio("sphinx_errors", "phones", "lower"),
            "phones found": Metric.ratio("found", "wanted", "higher"),
        }

    def settings(self) -> dict[str, Any]:
        """Versions, and which recogniser."""
        return {
            "version": metadata.version("pocketsphinx"),
            "ctc": str(self._folder.name),
            "ctc_fingerprint": fingerprint(self._folder, *ALIGNER),
            "decoding": f"best path, {CHANGE_COST:g} nats a change",
            "reference": "first pronunciation of each word, without silences",
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """Errors of the whole wave, and what is found in the part that was generated."""
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Sound) -> Score:
        lexicon = english_lexicon()
        try:
            said = [base_of(p) for w in words_of(sound.text) for p in lexicon.pronunciations(w)[0]]
        except UserError:
            said = []
        heard = self._sphinx.recognise(sound.wave)
        score: Score = {
            "ctc_errors": float(edits(said, self.by_ctc(sound.wave))),
            "sphinx_errors": float(edits(said, [phone.symbol for phone in heard])),
            "phones": float(len(said)),
            "found": None,
            "wanted": None,
        }
        if sound.phones:
            start, end = (sample / SAMPLE_RATE for sample in sound.generated)
            found = longest_common(sound.phones, phones_within(heard, start, end))
            score |= {"found": float(found), "wanted": float(len(sound.phones))}
        return score

    @torch.no_grad()
    def by_ctc(self, wave: np.ndarray) -> list[str]:
        """The trained recogniser's phones; wave: (n,) at 16 kHz."""
        if len(wave) < self._features.n_fft:
            return []
        listened = resample(wave, SAMPLE_RATE, self._features.sample_rate)
        mel = self._features.normalise(self._log_mel(torch.from_numpy(listened)))
        kept = steady(self._network(mel[None], torch.tensor([len(mel)]))[0])
        return [self._symbols[i] for i in kept.tolist() if i != models.BLANK]


def steady(log_probs: Tensor, cost: float = CHANGE_COST) -> Tensor:
    """The classes (n,) of the best path through log posteriors (T, C), where each change costs."""
    score = log_probs[0].clone()
    came_from = []
    own = torch.arange(log_probs.shape[1])
    for frame in log_probs[1:]:
        best, other = score.max(0)
        stays = score >= best - cost
        came_from.append(torch.where(stays, own, other))
        score = torch.where(stays, score, best - cost) + frame
    path = [int(score.argmax())]
    for previous in reversed(came_from):
        path.append(int(previous[path[-1]]))
    return torch.unique_consecutive(torch.tensor(path[::-1]))
