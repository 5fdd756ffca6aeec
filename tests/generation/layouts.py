"""What tests of infill layouts share: a lexicon of three words, and an even aligner."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE, Alignment, Phone, Word
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.generation.infill import Layout, lay_out_infill
from voiceflow.generation.spans import Span
from voiceflow.text.lexicon import Lexicon

SAID = {"RED": ("R", "EH", "D"), "OX": ("AA", "K", "S"), "A": ("AH",)}
LEXICON = Lexicon({word: [phones] for word, phones in SAID.items()})
LOG_MEL = LogMel(FeatureSpec())
HOP = LOG_MEL.spec.hop


class EvenAligner:
    """Spreads all phones evenly between a silence at either end, and remembers what it heard.

    score: of words and wave; edge: of the wave, the seconds of the silences.
    """

    name = "even"

    def __init__(
        self,
        score: Callable[[str, np.ndarray], float | None] = lambda words, wave: -1.0,
        edge: Callable[[np.ndarray], float] = lambda wave: 0.1,
    ) -> None:
        self.score, self.edge = score, edge
        self.heard: list[tuple[str, int]] = []

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        self.heard.append((" ".join(words), len(wave)))
        seconds, edge = len(wave) / SAMPLE_RATE, self.edge(wave)
        phones = [phone for word in words for phone in SAID[word]]
        borders = iter(pairwise(np.linspace(edge, seconds - edge, len(phones) + 1).tolist()))
        made = [Word.silence(0.0, edge)]
        for word in words:
            inside = tuple(Phone(p, *next(borders)) for p in SAID[word])
            made.append(Word(word, inside[0].start, inside[-1].end, inside))
        made.append(Word.silence(made[-1].end, seconds))
        return Alignment(tuple(made), seconds, self.score(" ".join(words), wave))


def listening(wave: np.ndarray) -> float:
    """An edge that depends on every sample, as a real aligner's borders may."""
    assert np.isfinite(wave).all()
    return 0.05 + 0.05 * float(np.abs(wave).sum() % 1)


def noise(seconds: float = 2.0, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate))
    return wave.astype(np.float32)


def laid_out(
    words: str,
    *spans: Span,
    wave: np.ndarray | None = None,
    aligner: EvenAligner | None = None,
    log_mel: LogMel = LOG_MEL,
    keep_length: bool = True,
) -> Layout:
    """The layout of 2 s of noise, or of `wave`."""
    wave = noise(rate=log_mel.spec.sample_rate) if wave is None else wave
    return lay_out_infill(wave, words.split(), spans, aligner or EvenAligner(), LEXICON, log_mel,
                          "it.wav", keep_length)  # fmt: skip


Scores = dict[tuple[str, float], float | None]
