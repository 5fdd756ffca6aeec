"""Forced alignment by our own phone recogniser, for any language and any phones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.alignment.viterbi import Graph, best_paths, words_graph
from voiceflow.alignment.viterbi import Path as StatePath
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import resample
from voiceflow.config import UserError
from voiceflow.model_folder import ModelFolder
from voiceflow.models.aligner import PhoneRecogniser
from voiceflow.text.lexicon import Pronounces
from voiceflow.text.phones import PhoneTable, base_of

LENGTHS_APART = 64  # frames


class CtcAligner:
    """Aligns with a trained phone recogniser; all of a word's pronunciations compete.

    network: the recogniser, for `features` and the classes of `phones`. lexicon: English with
    rules and network where none is given. max_pronunciations: how many of a word's pronunciations
    compete. An aligner may be pickled.
    """

    name = "ctc"

    def __init__(
        self,
        network: PhoneRecogniser,
        phones: PhoneTable,
        features: FeatureSpec,
        lexicon: Pronounces | None = None,
        max_pronunciations: int = 6,
    ) -> None:
        self._network = network.eval()
        self._symbols = phones.bases()
        self._classes = {symbol: i for i, symbol in enumerate(self._symbols)}
        self._features = features
        self._log_mel = LogMel(features)
        self._lexicon = lexicon
        self._max_pronunciations = max_pronunciations

    @classmethod
    def of_voice(cls, voice: str | Path, lexicon: Pronounces | None = None) -> CtcAligner:
        """The aligner that a voice carries; UserError where it has none."""
        folder = ModelFolder.open(voice)
        network = folder.load("aligner")
        assert isinstance(network, PhoneRecogniser)
        return cls(network, folder.phones, folder.features, lexicon)

    def align(
        self,
        wave: np.ndarray,
        words: list[str],
        id: str = "",
        unheard: Sequence[tuple[float, float]] = (),
        open_end: bool = False,
    ) -> Alignment:
        """Borders of every word and phone, in the given order, and of the pauses between.

        wave: (n,) float32 mono at 16 kHz. unheard: stretches (seconds) in which any phone is as
        likely as any other, since their sound is spoilt: what is around them decides which words
        they hold. open_end: the sound may end before the words do; the alignment then ends with
        the last word or pause that is whole. The score is the average over frames, in nats, of the
        best path's posteriors relative to the likeliest class of each frame: 0 at the best. Raises
        AlignmentError, whose message holds the reason.
        """
        [found] = self.align_batch([wave], [words], [id], [unheard], open_end)
        if isinstance(found, AlignmentError):
            raise found
        return found

    @torch.no_grad()
    def align_batch(
        self,
        waves: Sequence[np.ndarray],
        words: Sequence[list[str]],
        ids: Sequence[str],
        unheard: Sequence[Sequence[tuple[float, float]]] = (),
        open_end: bool = False,
    ) -> list[Alignment | AlignmentError]:
        """Several utterances at once; an utterance's result does not depend on the others.

        unheard: of each utterance, as `align` has it, or none of any; open_end: of all.
        """
        if any(unheard):
            waves = [_silenced(w, spans) for w, spans in zip(waves, unheard, strict=True)]
        said: list[list[list[tuple[str, ...]]] | AlignmentError] = []
        for wave, transcript, id in zip(waves, words, ids, strict=True):
            try:
                said.append(self._pronunciations(wave, transcript, id))
            except AlignmentError as error:
                said.append(error)
        good = [i for i, found in enumerate(said) if not isinstance(found, AlignmentError)]
        results: list[Alignment | AlignmentError] = [
            found if isinstance(found, AlignmentError) else AlignmentError("") for found in said
        ]
        if not good:
            return results
        log_probs, lengths = self._posteriors([waves[i] for i in good])
        if any(unheard):
            for row, i in enumerate(good):
                self._forget(log_probs[row], unheard[i])
        ways = [said[i] for i in good]
        graphs = [self._graph(way) for way in ways if not isinstance(way, AlignmentError)]
        if open_end:
            graphs = [replace(graph, last=tuple(range(len(graph.classes)))) for graph in graphs]
        for i, way, graph, path, posterior in zip(
            good, ways, graphs, best_paths(log_probs, lengths, graphs), log_probs, strict=True
        ):
            assert not isinstance(way, AlignmentError)
            seconds = len(waves[i]) / SAMPLE_RATE
            if path is None:
                results[i] = AlignmentError(
                    f"{ids[i]}: {len(words[i])} words do not fit into {seconds:.2f} s of audio: "
                    "the transcript is probably not what is said"
                )
                continue
            best = float(posterior[: len(path.states)].max(1).values.sum())
            score = (path.score - best) / len(path.states)
            results[i] = self._alignment(path, graph, words[i], way, seconds, score)
        return results

    def _forget(self, log_probs: Tensor, spans: Sequence[tuple[float, float]]) -> None:
        """Make all classes alike in spans (seconds) of posteriors (T', C), in place."""
        step = self._network.stride * self._features.hop_seconds
        for start, end in spans:
            first, last = round(start / step), round(end / step) + 1
            log_probs[first:last] = 0.0

    @torch.no_grad()
    def doubt(self, wave: np.ndarray, alignment: Alignment) -> np.ndarray:
        """How unlikely an alignment's phones are, frame by frame of the features: (T,) nats, 0 or
        more, by which the likeliest class is above the one that is said to be there.

        wave: (n,) float32 mono at 16 kHz, which the alignment covers. A phone that the recogniser
        does not know counts 0.
        """
        [posterior], _ = self._posteriors([wave])
        stride = self._network.stride
        n_frames = self._features.n_frames(
            len(wave) * self._features.sample_rate // SAMPLE_RATE
        )
        framed = to_frames(alignment, n_frames, self._features.hop_seconds)
        classes = [self._classes.get(base_of(p), -1) for p in framed.phones]
        there = torch.tensor(classes).repeat_interleave(torch.tensor(framed.durations))
        frames = torch.arange(n_frames)
        told = posterior[(frames // stride).clamp(max=len(posterior) - 1)]
        said = told.gather(1, there.clamp(min=0)[:, None])[:, 0]
        found: np.ndarray = torch.where(there >= 0, told.max(1).values - said, 0.0).numpy()
        return found

    def _pronunciations(
        self, wave: np.ndarray, words: list[str], id: str
    ) -> list[list[tuple[str, ...]]]:
        if not words:
            raise AlignmentError(f"{id}: the transcript holds no word")
        if len(wave) < 2 * self._features.hop_seconds * SAMPLE_RATE:
            raise AlignmentError(f"{id}: {len(wave)} samples of audio are too few to hold a word")
        lexicon = self._lexicon or english_lexicon()
        try:
            said = [list(lexicon.pronunciations(w)[: self._max_pronunciations]) for w in words]
        except UserError as error:
            raise AlignmentError(f"{id}: {error}") from None
        foreign = {p for ways in said for way in ways for p in way} - set(self._classes)
        if foreign:
            raise AlignmentError(
                f"{id}: the aligner has no phone {', '.join(sorted(foreign))}: its lexicon is of "
                "another phone set than it was trained on"
            )
        return said

    def _posteriors(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, list[int]]:
        rate = self._features.sample_rate
        mels = [
            self._features.normalise(
                self._log_mel(torch.from_numpy(resample(wave, SAMPLE_RATE, rate)))
            )
            for wave in waves
        ]
        lengths = torch.tensor([len(mel) for mel in mels])
        padded = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True)
        # Few lengths: what oneDNN keeps for each that it meets adds up to hundreds of megabytes.
        padded = torch.nn.functional.pad(padded, (0, 0, 0, -padded.shape[1] % LENGTHS_APART))
        outputs = self._network.frames(lengths)
        return self._network(padded, lengths)[:, : int(outputs.max())], outputs.tolist()

    def _graph(self, said: Sequence[Sequence[tuple[str, ...]]]) -> Graph:
        return words_graph([[[self._classes[p] for p in way] for way in ways] for ways in said])

    def _alignment(
        self,
        path: StatePath,
        graph: Graph,
        words: list[str],
        said: Sequence[Sequence[tuple[str, ...]]],
        seconds: float,
        score: float,
    ) -> Alignment:
        """The path's states as words and phones in seconds."""
        states, counts = torch.unique_consecutive(path.states, return_counts=True)
        ends = counts.cumsum(0).tolist()
        borders = [0.0, *(self._at(end, seconds) for end in ends[:-1]), seconds]
        place = _places(said)
        made: list[Word] = []
        phones: list[Phone] = []
        for state, start, end in zip(states.tolist(), borders[:-1], borders[1:], strict=True):
            number, inside = place[state]
            symbol = self._symbols[graph.classes[state]]
            if number is None:
                made.append(Word.silence(start, end))
                continue
            phones.append(Phone(symbol, start, end))
            if inside:  # the last phone of its pronunciation
                made.append(Word(words[number], phones[0].start, end, tuple(phones)))
                phones = []
        return Alignment(tuple(made), phones[0].start if phones else seconds, score)

    def _at(self, output: int, seconds: float) -> float:
        """The border ahead of an output, in seconds.

        Output j hears around frame j * stride, and frame i around i hops: the border lies between
        two outputs. Against MFA's borders the median is then 0 within a millisecond.
        """
        hops = self._network.stride * (output - 0.5)
        return round(min(max(hops * self._features.hop_seconds, 0.0), seconds), 6)


def _places(said: Sequence[Sequence[tuple[str, ...]]]) -> list[tuple[int | None, bool]]:
    """For each state of `words_graph`: its word (None in silence), and whether it ends it."""
    found: list[tuple[int | None, bool]] = [(None, False)]
    for number, ways in enumerate(said):
        for way in ways:
            found += [(number, i == len(way) - 1) for i in range(len(way))]
        found.append((None, False))
    return found


def _silenced(wave: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """The wave with silence in spans (seconds), so that noise does not reach into what is heard."""
    kept = wave.copy()
    for start, end in spans:
        kept[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = 0.0
    return kept
