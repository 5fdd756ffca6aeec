"""Spoken transcripts: does a listener that knows nothing of the voice hear what was to be said?

Two listeners: pocketsphinx's aligner, which must prefer the right transcript to others of similar
length (the matching test), and its recogniser, whose word error rate is coarse and therefore stands
beside that of the original recordings and of their resynthesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono, resample
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.files import write_json
from voiceflow.measures.bootstrap import bootstrap_interval
from voiceflow.measures.subject import Subject, recipe, spread_over_speakers
from voiceflow.measures.words import WordRecogniser, word_errors
from voiceflow.text.normalise import words_of

N_OTHERS = 19
ORIGINAL, RESYNTHESIS, SPOKEN = "original", "resynthesis", "voice"


@dataclass(frozen=True)
class Heard:
    """One sound of one transcript.

    matched: whether the right transcript has a higher score than all others; margin: by how many
    nats per frame it leads the best of them, None where one of the two does not fit at all;
    errors, words: of the recogniser.
    """

    matched: bool
    margin: float | None
    errors: int
    words: int
    hypothesis: str


@dataclass(frozen=True)
class SpeechRow:
    """All sounds of one kind; `low` and `high` bound the WER's 95 % interval over speakers."""

    way: str
    matched: float
    wer: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.way:<14}{100 * self.matched:>10.1f} %{100 * self.wer:>10.1f} %"
            f"   ({100 * self.low:.1f} to {100 * self.high:.1f} %)"
        )


HEADER = f"{'':<14}{'matching':>12}{'WER':>12}   (95 % interval over speakers)"


def nearest(text: str, others: Sequence[str]) -> list[list[str]]:
    """The 19 transcripts nearest in length (letters) that say something else; fewer if need be.

    Ties go by the words.
    """
    said = words_of(text)
    length = len(" ".join(said))
    rivals = sorted({" ".join(words) for other in others if (words := words_of(other)) != said})
    return [r.split() for r in sorted(rivals, key=lambda r: abs(len(r) - length))[:N_OTHERS]]


def others(utterance: Utterance, all_of_them: Sequence[Utterance]) -> list[list[str]]:
    """The 19 other transcripts nearest in length; UserError where there are fewer."""
    found = nearest(utterance.text, [u.text for u in all_of_them if u.id != utterance.id])
    if len(found) < N_OTHERS:
        raise UserError(
            f"the matching test needs {N_OTHERS} other transcripts, found {len(found)}: name a "
            "larger subset"
        )
    return found


class Listener:
    """Hears a sound (n,) float mono at 16 kHz and tells what it makes of it."""

    def __init__(self, voice: Subject) -> None:
        self.aligner = voice.aligner
        self.recogniser = WordRecogniser()

    def hear(self, wave: np.ndarray, text: str, rivals: Sequence[Sequence[str]]) -> Heard:
        """Score the right transcript against its rivals, and count the recogniser's errors."""
        right = self.aligner.score(wave, words_of(text))
        best = max(self.aligner.score(wave, list(words)) for words in rivals)
        hypothesis = self.recogniser.recognise(wave)
        errors, words = word_errors(text, hypothesis)
        margin = float(right - best) if np.isfinite(right) and np.isfinite(best) else None
        return Heard(right > best, margin, errors, words, hypothesis)


def speech_row(way: str, heard: Sequence[Heard], speakers: Sequence[str]) -> SpeechRow:
    """Share matched and WER over all words, with its interval over speakers."""
    counts = np.array([[h.errors, h.words] for h in heard], float)
    low, high = bootstrap_interval(counts, speakers, lambda means: means[:, 0] / means[:, 1])
    wer = float(counts[:, 0].sum() / counts[:, 1].sum())
    return SpeechRow(way, float(np.mean([h.matched for h in heard])), wer, low, high)


def measure_speech(
    voice: Subject,
    utterances: Sequence[Utterance],
    *,
    count: int | None = 20,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    solver: str | None = None,
    out: Path | None = None,
) -> list[SpeechRow]:
    """Speak transcripts without a prompt and print what two listeners hear.

    count: how many (one of each speaker, then a second, ...); None for all. The originals and
    their resynthesis by the voice's own features and vocoder are heard beside them. out: where
    to write every sound's figures as JSON.
    """
    from rich.progress import track

    settings = voice.settings(steps=steps, guidance=guidance, solver=solver)
    chosen = spread_over_speakers(utterances)[:count]
    if not chosen:
        raise UserError("no utterances to speak")
    rivals = [others(utterance, utterances) for utterance in chosen]
    listener = Listener(voice)
    rate = voice.features.sample_rate
    heard: dict[str, list[Heard]] = {ORIGINAL: [], RESYNTHESIS: [], SPOKEN: []}
    for utterance, wrong in track(list(zip(chosen, rivals, strict=True)), "transcripts"):
        original = load_mono(utterance.audio, rate)
        spoken = voice.speak(
            utterance.text, seed=seed, steps=settings.steps, guidance=settings.guidance,
            solver=settings.solver,
        )  # fmt: skip
        sounds = {
            ORIGINAL: original,
            RESYNTHESIS: voice.vocode(voice.log_mel(torch.from_numpy(original))),
            SPOKEN: spoken.recording.mono(),
        }
        for way, wave in sounds.items():
            listened = resample(wave, rate, SAMPLE_RATE)
            heard[way].append(listener.hear(listened, utterance.text, wrong))
    speakers = [utterance.speaker for utterance in chosen]
    rows = [speech_row(way, found, speakers) for way, found in heard.items()]
    print(f"{len(chosen)} transcripts, each against {N_OTHERS} others of similar length")
    print(HEADER, *rows, sep="\n")
    if out is not None:
        record = {
            **recipe(voice, settings, seed),
            "rows": [asdict(row) for row in rows],
            "transcripts": [
                {"id": u.id, "heard": {way: asdict(found[i]) for way, found in heard.items()}}
                for i, u in enumerate(chosen)
            ],
        }
        write_json(out, record)
    return rows
