"""Voice: a model folder and what can be done with it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError
from voiceflow.audio.effects import trim_silence
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import Recording, read, resample, write
from voiceflow.config import SampleConfig, UserError, UserNote
from voiceflow.generation.durations import regressed_durations
from voiceflow.generation.infill import Layout, check_score, lay_out_infill
from voiceflow.generation.plan import Gap, Plan, Slot, known_slots, lay_out, within
from voiceflow.generation.sample import Sampled, sample
from voiceflow.generation.spans import Span, check_spans
from voiceflow.generation.splice import Fill, cut, splice
from voiceflow.model_folder import ModelFolder
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import SILENCE, with_ghost_silences
from voiceflow.vocoders.choice import Vocodes, make_vocoder, named_vocoder

EDGE_SILENCE_SECONDS = 0.1
# Frames of real spectrogram on either side of a gap that the vocoder hears with it.
VOCODER_CONTEXT_FRAMES = 60

Sound = Recording | Path | str


@dataclass(frozen=True)
class Generated:
    """What a task gave.

    recording: the sound; plan: phones, durations and gaps behind it; mel: (T, M) un-normalised
    log-mel of the whole; layout: the recording as it was found (None where there was none);
    settings and seed: what it was made with; nfe, network_passes: what it cost.
    """

    recording: Recording
    plan: Plan
    mel: Tensor
    features: FeatureSpec
    settings: SampleConfig
    seed: int
    nfe: int
    network_passes: int
    layout: Layout | None = None

    def save(self, path: Path | str) -> None:
        """Write the sound as .wav or .flac; UserError when it cannot be written."""
        write(Path(path), self.recording)

    def draw(self, path: Path | str, title: str = "") -> None:
        """Write a PNG of the spectrogram before and after, with phones and spans."""
        from voiceflow.pictures.spectrogram import infill_picture

        hop = self.features.hop_seconds
        after = _timed(self.plan.phones, self.plan.durations, hop)
        spans_after = [(a * hop, b * hop) for a, b in self.plan.gaps]
        before_mel, before, spans_before = self.mel, after, spans_after
        if self.layout is not None:
            before_mel = self.layout.mel
            before = _timed_before(self.layout, hop)
            spans_before = [(g.first * hop, g.last * hop) for g in self.layout.gaps]
        infill_picture(
            Path(path), before_mel.numpy(), self.mel.numpy(), self.features,
            before, after, spans_before, spans_after, title,
        )


def _timed(
    phones: Sequence[str], durations: Sequence[int], hop: float, start: int = 0
) -> list[tuple[str, float, float]]:
    edges = np.concatenate([[0], np.cumsum(durations)]) + start
    return [(p, a * hop, b * hop) for p, a, b in zip(phones, edges, edges[1:], strict=False)]


def _timed_before(layout: Layout, hop: float) -> list[tuple[str, float, float]]:
    """The recording's own phones; what lies in gaps is left out."""
    timed: list[tuple[str, float, float]] = []
    position, entered = 0, -1
    for slot in layout.slots:
        if slot.gap is not None and slot.gap > entered:
            entered = slot.gap
            position = layout.gaps[entered].last
        elif slot.gap is None:
            timed += _timed([slot.phone], [slot.frames], hop, position)
            position += slot.frames
    return timed


class Voice:
    """A loaded model folder. `Voice.load("mini")` needs no network."""

    def __init__(self, folder: ModelFolder, vocoder: Vocodes | None = None) -> None:
        self.folder = folder
        self.vocoder = vocoder or make_vocoder(folder)
        self.features = folder.features
        self.log_mel = LogMel(folder.features)

    @classmethod
    def load(cls, voice: str | Path, vocoder: str | Path | None = None) -> Voice:
        """A bundled voice by name, or a model folder; UserError when it is not complete.

        vocoder: `griffin-lim`, a model folder whose vocoder it shall have, or a public one
        (`named_vocoder`); its own, if it has one, or Griffin-Lim where none is named.
        """
        folder = ModelFolder.open(voice)
        loaded = cls(folder, None if vocoder is None else named_vocoder(vocoder, folder.features))
        _ = loaded.velocity
        return loaded

    @cached_property
    def velocity(self) -> nn.Module:
        """The velocity network."""
        return self.folder.load("velocity")

    @cached_property
    def duration(self) -> nn.Module:
        """The duration network."""
        return self.folder.load("duration")

    @cached_property
    def aligner(self) -> PocketsphinxAligner:
        """Finds the words of a transcript in a recording."""
        return PocketsphinxAligner()

    def infill(
        self,
        audio: Sound,
        text: str,
        spans: Sequence[Span | tuple[float, float]],
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        solver: str | None = None,
        keep_length: bool = True,
    ) -> Generated:
        """Fill spans (seconds) of a recording with what the transcript says there.

        text: the whole transcript as it shall be. A span with words is not listened to; one
        without is heard first, to learn which words lie in it. With keep_length the fill is as
        long as the gap; without, as long as its words take. Outside the spans (widened to whole
        phones) and their 10 ms cross-fades every sample stays the recording's own.
        """
        recording = self._recording(audio)
        layout, plan = self.plan_infill(recording, text, spans, keep_length)
        settings = self.settings(steps, guidance, solver)
        drawn = sample(self.velocity, plan, self.folder.phones, settings, seed)
        mel = self.features.denormalise(drawn.mel[0])
        filled = self.render(recording, layout, plan, mel)
        return self._generated(filled, plan, mel, settings, seed, drawn, layout)

    def speak(
        self,
        text: str,
        *,
        prompt: Sound | None = None,
        prompt_text: str | None = None,
        prompt_span: tuple[float, float] | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        solver: str | None = None,
    ) -> Generated:
        """Speak a text; with a prompt and what it says, in the prompt's voice.

        prompt_span: only this stretch of the prompt (seconds) is heard, the whole phones in it;
        prompt_text is then still what all of the prompt says, by which its phones are found. The
        sound is mono at the voice's rate, its edges' silence trimmed to 0.1 s. Raises
        UserError when only one of prompt and prompt_text is given, or they do not fit.
        """
        plan = self.plan_speech(words_of(text), prompt, prompt_text, prompt_span)
        settings = self.settings(steps, guidance, solver)
        drawn = sample(self.velocity, plan, self.folder.phones, settings, seed)
        mel = self.features.denormalise(drawn.mel[0])
        (first, last), = plan.gaps
        wave = self.vocode(mel, first, last)
        wave = trim_silence(wave, self.features.sample_rate, EDGE_SILENCE_SECONDS)
        recording = Recording.from_mono(wave, self.features.sample_rate)
        return self._generated(recording, plan, mel, settings, seed, drawn, None)

    def plan_infill(
        self,
        recording: Recording,
        text: str,
        spans: Sequence[Span | tuple[float, float]],
        keep_length: bool = True,
    ) -> tuple[Layout, Plan]:
        """The plan of `infill`, and the recording as it was found."""
        name = str(recording.path or "the recording")
        ordered = check_spans([Span(*s) for s in spans], recording.seconds)
        wave = self._wave(recording)
        layout = lay_out_infill(wave, words_of(text), ordered, self.aligner, english_lexicon(),
                                self.log_mel, name, keep_length)
        context = self.features.normalise(layout.mel)
        return layout, lay_out(layout.slots, layout.gaps, context, self.predict_durations)

    def plan_speech(
        self,
        words: Sequence[str],
        prompt: Sound | None = None,
        prompt_text: str | None = None,
        prompt_span: tuple[float, float] | None = None,
    ) -> Plan:
        """The plan of `speak`: the prompt as context, then the words as one gap."""
        if (prompt is None) != (prompt_text is None):
            raise UserError("a prompt and what it says belong together: give both or neither")
        lexicon = english_lexicon()
        phones = with_ghost_silences(lexicon.pronunciations(w)[0] for w in words)
        slots: list[Slot] = []
        mel = torch.zeros(0, self.features.n_mels)
        if prompt is not None and prompt_text is not None:
            slots, mel = self._prompt(self._recording(prompt), words_of(prompt_text), prompt_span)
            if slots[-1].phone == SILENCE:
                phones = phones[1:]  # the prompt's last silence stands before the first word
        gap = Gap(len(mel), len(mel), None)
        slots += [Slot(p, 0, 0) for p in phones]
        return lay_out(slots, [gap], self.features.normalise(mel), self.predict_durations)

    def align(self, audio: Sound, text: str) -> Alignment:
        """When each word and phone of a transcript is said, in seconds.

        Raises UserError when the words are not what is said.
        """
        recording = self._recording(audio)
        name = str(recording.path or "the recording")
        return self._align(self._wave(recording), words_of(text), name)

    def _align(self, wave: np.ndarray, words: list[str], name: str) -> Alignment:
        try:
            listened = resample(wave, self.features.sample_rate, SAMPLE_RATE)
            alignment = self.aligner.align(listened, words, name)
        except AlignmentError as error:
            raise UserError(f"the sound and its text do not fit together: {error}") from error
        check_score(alignment.score, name)
        return alignment

    def settings(
        self, steps: int | None, guidance: float | None, solver: str | None
    ) -> SampleConfig:
        """The voice's preset with what was asked for instead."""
        asked = {"steps": steps, "guidance": guidance, "solver": solver}
        given = {k: v for k, v in asked.items() if v is not None}
        return replace(self.folder.config.sample, **given)  # type: ignore[arg-type]

    @torch.no_grad()
    def predict_durations(self, phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
        """Frames (N,) of masked phones, as real numbers, at least 0.

        phones: (N); known: (N,) frames, read where mask (N,) is False. Silences at the very ends
        are bounded by 0.1 s.
        """
        ids = torch.tensor([self.folder.phones.ids(phones)])
        frames = regressed_durations(self.duration, ids, known[None], mask[None], rounded=False)[0]
        most = EDGE_SILENCE_SECONDS / self.features.hop_seconds
        for end in (0, -1):
            if phones[end] == SILENCE:
                frames[end] = frames[end].clamp(max=most)
        return frames

    def vocode(self, mel: Tensor, first: int = 0, last: int | None = None) -> np.ndarray:
        """Waveform of frames first:last of mel (T, M), un-normalised; (n,) float32.

        Sample 0 is the border before frame `first`; real spectrogram around is heard with it.
        """
        last = len(mel) if last is None else last
        start = max(first - VOCODER_CONTEXT_FRAMES, 0)
        wave = self.vocoder(mel[start : last + VOCODER_CONTEXT_FRAMES]).numpy()
        hop = self.features.hop
        begin = max((first - start) * hop - hop // 2, 0)
        return wave[begin : begin + (last - first) * hop]

    def render(self, recording: Recording, layout: Layout, plan: Plan, mel: Tensor) -> Recording:
        """The recording with a plan's gaps put in; mel: (T, M) un-normalised, of the plan."""
        return splice(recording, self._fills(recording, layout, plan, mel))

    def _fills(
        self, recording: Recording, layout: Layout, plan: Plan, mel: Tensor
    ) -> list[Fill]:
        """The new sound of each gap, with margins, at the recording's rate."""
        hop, rate = self.features.hop, self.features.sample_rate
        fills: list[Fill] = []
        shift = 0  # frames by which earlier gaps moved what follows
        for gap, (first, last), (start, end) in zip(
            layout.gaps, plan.gaps, layout.cuts, strict=True
        ):
            after = shift + (last - first) - (gap.last - gap.first)
            begin = max(first - VOCODER_CONTEXT_FRAMES, 0)
            wave = self.vocoder(mel[begin : last + VOCODER_CONTEXT_FRAMES]).numpy()
            wave = resample(wave, rate, recording.sample_rate)
            scale = recording.sample_rate / rate
            new_start = round((start + (shift - begin) * hop) * scale)
            new_end = round((end + (after - begin) * hop) * scale)
            piece = cut(wave, new_start, new_end, recording.sample_rate)
            n = len(recording.samples)
            fills.append(Fill(min(round(start * scale), n), min(round(end * scale), n), piece))
            shift = after
        return fills

    def _prompt(
        self, recording: Recording, words: list[str], span: tuple[float, float] | None
    ) -> tuple[list[Slot], Tensor]:
        """The prompt's phones and un-normalised log-mel (T, M), end silence trimmed to 0.1 s."""
        wave = self._wave(recording)
        alignment = self._align(wave, words, str(recording.path or "the prompt"))
        mel = self.log_mel(torch.from_numpy(wave))
        framed = to_frames(alignment, len(mel), self.features.hop_seconds)
        slots = known_slots(framed)
        if span is not None:
            hop = self.features.hop_seconds
            # Its last frame is centred on the recording's end.
            end = len(mel) if span[1] > recording.seconds - hop else round(span[1] / hop)
            slots, first, last = within(slots, round(span[0] / hop), end)
            mel = mel[first:last]
        most = round(EDGE_SILENCE_SECONDS / self.features.hop_seconds)
        before, after = (
            max(slot.frames - most, 0) if slot.phone == SILENCE else 0
            for slot in (slots[0], slots[-1])
        )
        slots[0] = replace(slots[0], frames=slots[0].frames - before)
        slots[-1] = replace(slots[-1], frames=slots[-1].frames - after)
        return slots, mel[before : len(mel) - after]

    def _recording(self, audio: Sound) -> Recording:
        return audio if isinstance(audio, Recording) else read(Path(audio))

    def _wave(self, recording: Recording) -> np.ndarray:
        """(n,) mono at the voice's rate, with a warning where something is lost on the way."""
        name = recording.path.name if recording.path else "the recording"
        rate, mine = recording.sample_rate, self.features.sample_rate
        if recording.samples.shape[1] > 1:
            warnings.warn(
                f"{name} has {recording.samples.shape[1]} channels: their mean is listened to, "
                "and new sound is the same in each",
                UserNote,
                stacklevel=3,
            )
        if rate > mine:
            warnings.warn(
                f"{name} is at {rate} Hz: new sound ends at {self.features.f_max / 1000:g} kHz, "
                "the highest that this voice knows",
                UserNote,
                stacklevel=3,
            )
        if rate < mine:
            warnings.warn(
                f"{name} is at {rate} Hz: sound above {rate / 2000:g} kHz is not there and is "
                f"not heard in new sound either; this voice was trained at {mine} Hz and may do "
                "worse",
                UserNote,
                stacklevel=3,
            )
        wave = resample(recording.mono(), rate, mine)
        shortest = self.features.n_fft // 2 + 1
        if len(wave) < shortest:
            raise UserError(
                f"{name} lasts {recording.seconds:.3f} s, shorter than one phone: at least "
                f"{shortest / mine:.3f} s are needed"
            )
        return wave

    def _generated(
        self,
        recording: Recording,
        plan: Plan,
        mel: Tensor,
        settings: SampleConfig,
        seed: int,
        drawn: Sampled,
        layout: Layout | None,
    ) -> Generated:
        return Generated(recording, plan, mel, self.features, settings, seed, drawn.nfe,
                         drawn.network_passes, layout)
