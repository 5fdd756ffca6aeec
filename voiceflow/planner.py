"""What a voice knows before it makes a sound: alignments, durations, plans."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voiceflow.alignment.ctc import CtcAligner
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.long import LongAligner
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError
from voiceflow.audio.features import LogMel
from voiceflow.audio.io import Recording, read, resample
from voiceflow.config import UserError, UserNote
from voiceflow.data.masking import generator_for
from voiceflow.generation.continuation import lay_out_continuation
from voiceflow.generation.durations import regressed_durations, sampled_durations
from voiceflow.generation.edit import lay_out_edit
from voiceflow.generation.infill import Layout, check_score, lay_out_infill
from voiceflow.generation.level import note_band
from voiceflow.generation.noise import AlignsAround, propose_spans
from voiceflow.generation.pace import given, level_outside, note_pace
from voiceflow.generation.plan import Gap, Plan, PredictDurations, Slot, known_slots, lay_out
from voiceflow.generation.prompt import EDGE_SILENCE_SECONDS, Known, cut_prompt
from voiceflow.generation.sample import windows
from voiceflow.generation.spans import Span, Spanlike, as_span, check_spans, without_words
from voiceflow.model_folder import ModelFolder
from voiceflow.models.aligner import PhoneRecogniser
from voiceflow.models.duration import DurationFlowNetwork
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import SILENCE, with_ghost_silences

SILENT = 1e-3  # a peak, of 1: 60 dB under full scale
# On either side of masked phones; 16 s and more, as long as what duration networks are trained on.
PHONES_BESIDE = 250

# What to do where what is said does not fit in a length that is given.
_OTHER_SPAN = "Choose another span"
_NATURAL_SPAN = (
    "Let it last as it needs (--natural-length; keep_length=False in Python), or choose another "
    "span"
)
_NATURAL_EDIT = "Let it last as it needs: leave out --keep-length (in Python keep_length)"

Sound = Recording | Path | str


class Planner:
    """A model folder's networks for durations and its aligner, and the plans that they make."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.features = folder.features
        self.log_mel = LogMel(folder.features)

    @cached_property
    def duration(self) -> nn.Module:
        """The duration network."""
        return self.folder.load("duration")

    @cached_property
    def duration_flow(self) -> DurationFlowNetwork | None:
        """The network that draws durations, if the voice has one."""
        if self.folder.config.duration_flow is None:
            return None
        network = self.folder.load("duration_flow")
        assert isinstance(network, DurationFlowNetwork)
        return network

    @cached_property
    def phone_aligner(self) -> CtcAligner:
        """The aligner that the voice carries; UserError where it has none."""
        network = self.folder.load("aligner")
        assert isinstance(network, PhoneRecogniser)
        return CtcAligner(network, self.folder.phones, self.features)

    @cached_property
    def aligner(self) -> PocketsphinxAligner:
        """Finds the words of a transcript in a recording."""
        return PocketsphinxAligner()

    @cached_property
    def long_aligner(self) -> LongAligner:
        """The same for recordings of any length: beyond a minute by the voice's own aligner."""
        return LongAligner(self.aligner, lambda: self.phone_aligner)

    def plan_infill(
        self,
        recording: Recording,
        text: str,
        spans: Sequence[Spanlike],
        keep_length: bool = True,
    ) -> tuple[Layout, Plan]:
        """The plan of `infill`, and the recording as it was found."""
        name = str(recording.path or "the recording")
        ordered = check_spans([as_span(span) for span in spans], recording.seconds)
        wave = self._wave(recording)
        layout = lay_out_infill(wave, words_of(text), ordered, self.long_aligner, english_lexicon(),
                                self.log_mel, name, keep_length)
        if not any(s.gap is None and s.frames > 0 and s.phone != SILENCE for s in layout.slots):
            raise UserError(
                f"{name}: the spans leave nothing of what is said, expected at least one phone "
                "outside of them: to say it all anew, use speak with a prompt"
            )
        return layout, self._planned(layout, name, _NATURAL_SPAN)

    def plan_edit(
        self, recording: Recording, old: str, new: str, keep_length: bool = False
    ) -> tuple[Layout, Plan]:
        """The plan of `edit`, and the recording as it was found."""
        name = str(recording.path or "the recording")
        wave = self._wave(recording)
        alignment = self._align(wave, words_of(old), name)
        layout = lay_out_edit(wave, alignment, words_of(new), english_lexicon(), self.log_mel, name,
                              keep_length)  # fmt: skip
        return layout, self._planned(layout, name, _NATURAL_EDIT)

    def propose_noise(self, recording: Recording, text: str) -> list[tuple[float, float]]:
        """Spans (seconds) that noise seems to cover, maybe none: what `denoise` fills."""
        wave = resample(self._wave(recording), self.features.sample_rate, SAMPLE_RATE)
        name = str(recording.path or "the recording")
        try:
            alignment = self.long_aligner.align(wave, words_of(text), name)
        except AlignmentError:  # noise may keep it from the end of any path
            try:
                alignment = self.phone_aligner.align(wave, words_of(text), name)
            except AlignmentError as error:
                raise UserError(f"the sound and its text do not fit together: {error}") from error
        return propose_spans(wave, alignment, self.phone_aligner)

    def plan_denoise(
        self, recording: Recording, text: str, spans: Sequence[Spanlike]
    ) -> tuple[Layout, Plan]:
        """The plan of `denoise`: the words around the spans tell which words lie in them."""
        name = str(recording.path or "the recording")
        told = without_words([as_span(span) for span in spans])
        ordered = check_spans(told, recording.seconds)
        half = self.features.window / 2 / self.features.sample_rate
        ordered = check_spans(
            [Span(max(s.start - half, 0.0), min(s.end + half, recording.seconds)) for s in ordered],
            recording.seconds,
        )
        around = AlignsAround(self.phone_aligner, [(s.start, s.end) for s in ordered])
        layout = lay_out_infill(self._wave(recording), words_of(text), ordered, around,
                                english_lexicon(), self.log_mel, name)  # fmt: skip
        return layout, self._planned(layout, name)

    def plan_continuation(
        self, recording: Recording, text: str, prefix: float | None = None
    ) -> tuple[Layout, Plan]:
        """The plan of `continue_`, and the recording as it was found."""
        name = str(recording.path or "the recording")
        layout = lay_out_continuation(self._wave(recording), words_of(text), prefix, self.aligner,
                                      english_lexicon(), self.log_mel, name)  # fmt: skip
        return layout, self._planned(layout, name)

    def plan_score(
        self, recording: Recording, text: str, span: Spanlike | None = None
    ) -> tuple[Plan, Tensor]:
        """The plan of `log_likelihood`, and the normalised log-mel (T, M) that is scored.

        Of a span exactly its frames are masked, so that every text gets the same; one with words
        is not listened to, and takes their predicted durations.
        """
        wave = self._wave(recording)
        name = str(recording.path or "the recording")
        mel = self.features.normalise(self.log_mel(torch.from_numpy(wave)))
        mask = torch.ones(len(mel), dtype=torch.bool)
        if span is not None:
            [asked] = check_spans([as_span(span)], recording.seconds)
            if asked.words is not None:
                _, plan = self.plan_infill(recording, text, [asked])
                context = torch.where(plan.mask.unsqueeze(1), 0.0, mel)
                return replace(plan, context=context), mel
            hop = self.features.hop_seconds
            first, last = round(asked.start / hop), round(asked.end / hop)
            mask = torch.zeros(len(mel), dtype=torch.bool)
            mask[first : max(last, first + 1)] = True
        alignment = self._align(wave, words_of(text), name)
        framed = to_frames(alignment, len(mel), self.features.hop_seconds)
        context = torch.where(mask.unsqueeze(1), 0.0, mel)
        return Plan(tuple(framed.phones), tuple(framed.durations), context, mask), mel

    def plan_style(self, recording: Recording, text: str, known: Known) -> Plan:
        """The plan of `style_transfer`: a recording's phones and durations after a known voice."""
        wave = self._wave(recording)
        name = str(recording.path or "the recording")
        n_frames = self.features.n_frames(len(wave))
        alignment = self._align(wave, words_of(text), name)
        framed = to_frames(alignment, n_frames, self.features.hop_seconds)
        slots, mel = known
        if slots[-1].phone == SILENCE:  # the recording's first silence stands in its place
            mel = mel[: len(mel) - slots[-1].frames]
            slots = slots[:-1]
        row = [*slots, *(Slot(phone, 0, 0) for phone in framed.phones)]
        gap = Gap(len(mel), len(mel), n_frames)
        return lay_out(row, [gap], self.features.normalise(mel), given(framed.durations))

    def plan_speech(
        self,
        words: Sequence[str],
        prompt: Sound | None = None,
        prompt_text: str | None = None,
        prompt_span: tuple[float, float] | None = None,
    ) -> Plan:
        """The plan of `speak`: the prompt as context, then the words as one gap."""
        begun = self.heard_prompt(prompt, prompt_text, prompt_span)
        phones = self.spoken_phones(words, begun[0])
        return self.plan_after(begun, phones, self.predict_durations)

    def _planned(self, layout: Layout, name: str, advice: str = _OTHER_SPAN) -> Plan:
        """The layout's plan; advice: what to do where a length is given that does not suit."""
        context = self.features.normalise(layout.mel)
        plan = lay_out(layout.slots, layout.gaps, context, self.predict_durations)
        for number, (gap, wanted) in enumerate(zip(layout.gaps, plan.wanted, strict=True)):
            if gap.n_frames is not None:
                phones = [slot.phone for slot in layout.slots if slot.gap == number]
                hop = self.features.hop_seconds
                note_pace(phones, wanted, gap.n_frames, hop, name, advice)
        return plan

    def plan_after(
        self, begun: Known, phones: Sequence[str], predict: PredictDurations
    ) -> Plan:
        """Known slots with their un-normalised log-mel (T, M), then phones as one gap."""
        slots, mel = begun
        gap = Gap(len(mel), len(mel), None)
        row = [*slots, *(Slot(phone, 0, 0) for phone in phones)]
        return lay_out(row, [gap], self.features.normalise(mel), predict)

    def spoken_phones(self, words: Sequence[str], before: Sequence[Slot]) -> list[str]:
        """Phones of words, silences around each word; `before`: what is known and comes first."""
        lexicon = english_lexicon()
        phones = with_ghost_silences(lexicon.pronunciations(w)[0] for w in words)
        # A prompt's last silence stands before the first word.
        return phones[1:] if before and before[-1].phone == SILENCE else phones

    def heard_prompt(
        self, prompt: Sound | None, text: str | None, span: tuple[float, float] | None
    ) -> Known:
        """A prompt's phones and un-normalised log-mel (T, M); nothing (T = 0) without a prompt.

        text: what all of it says; span: the stretch to be heard, in seconds, None for all. Raises
        UserError where only one of prompt and text is given or they do not fit, and where less
        than 0.2 s of speech are left.
        """
        if (prompt is None) != (text is None):
            raise UserError("a prompt and what it says belong together: give both or neither")
        if prompt is None or text is None:
            return [], torch.zeros(0, self.features.n_mels)
        return self._prompt(self._recording(prompt), words_of(text), span)

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
            alignment = self.long_aligner.align(listened, words, name)
        except AlignmentError as error:
            raise UserError(f"the sound and its text do not fit together: {error}") from error
        check_score(alignment.score, name)
        return alignment

    @torch.no_grad()
    def predict_durations(self, phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
        """Frames (N,) of masked phones, as real numbers, at least 0.

        phones: (N); known: (N,) frames, read where mask (N,) is False. The network sees
        PHONES_BESIDE on either side of what is masked. Silences at the very ends are bounded by
        0.1 s.
        """
        ids = torch.tensor(self.folder.phones.ids(phones))
        frames = known.float()
        for near in windows(mask, PHONES_BESIDE):
            frames[near] = regressed_durations(
                self.duration, ids[None, near], known[None, near], mask[None, near], rounded=False
            )[0]
        return self._trimmed_edges(phones, frames)

    def drawn(self, seed: int) -> PredictDurations:
        """Durations as a sample of the flow, or by regression where the voice has no flow."""
        network = self.duration_flow
        if network is None:
            return self.predict_durations
        drawing = network

        def predict(phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
            ids = torch.tensor(self.folder.phones.ids(phones))
            frames, generator = known.float(), generator_for("durations", seed)
            for near in windows(mask, PHONES_BESIDE):
                frames[near] = sampled_durations(
                    drawing, ids[None, near], known[None, near], mask[None, near], rounded=False,
                    generators=[generator],
                )[0]  # fmt: skip
            return self._trimmed_edges(phones, frames)

        return predict

    def paced(self, speed: float) -> PredictDurations:
        """Predicted durations (frames) divided by `speed`: 2 is twice as fast."""

        def predict(phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
            frames = self.predict_durations(phones, known, mask)
            return torch.where(mask, frames / speed, frames)

        return self.predict_durations if speed == 1 else predict

    def _trimmed_edges(self, phones: Sequence[str], frames: Tensor) -> Tensor:
        most = EDGE_SILENCE_SECONDS / self.features.hop_seconds
        for end in (0, -1):
            if phones[end] == SILENCE:
                frames[end] = frames[end].clamp(max=most)
        return frames

    def _prompt(
        self, recording: Recording, words: list[str], span: tuple[float, float] | None
    ) -> Known:
        wave = self._wave(recording)
        alignment = self._align(wave, words, str(recording.path or "the prompt"))
        mel = self.log_mel(torch.from_numpy(wave))
        hop = self.features.hop_seconds
        slots, frames = known_slots(to_frames(alignment, len(mel), hop)), None
        if span is not None:
            # Its last frame is centred on the recording's end.
            end = len(mel) if span[1] > recording.seconds - hop else round(span[1] / hop)
            frames = round(span[0] / hop), end
        return cut_prompt(slots, mel, hop, frames, str(recording.path or "the prompt"))

    def _recording(self, audio: Sound) -> Recording:
        """What is named, read, or itself; UserError for what is no recording."""
        if isinstance(audio, Recording):
            return audio
        if not isinstance(audio, str | os.PathLike):
            raise UserError(
                f"a recording is a path or a Recording, found {type(audio).__name__}: "
                "Recording.from_mono(wave, sample_rate) makes one"
            )
        return read(audio)

    def _wave(self, recording: Recording) -> np.ndarray:
        """(n,) mono at the voice's rate, with a warning where something is lost on the way."""
        name = recording.path.name if recording.path else "the recording"
        rate, mine, outside = recording.sample_rate, self.features.sample_rate, level_outside()
        if recording.samples.shape[1] > 1:
            warnings.warn(
                f"{name} has {recording.samples.shape[1]} channels: their mean is listened to, "
                "and new sound goes to each at its level",
                UserNote,
                stacklevel=outside,
            )
        note_band(recording, self.features.f_max, outside)
        if rate < mine:
            warnings.warn(
                f"{name} is at {rate} Hz: sound above {rate / 2000:g} kHz is not there and is "
                f"not heard in new sound either; this voice was trained at {mine} Hz and may do "
                "worse",
                UserNote,
                stacklevel=outside,
            )
        wave = resample(recording.mono(), rate, mine)
        shortest = self.features.n_fft // 2 + 1
        if len(wave) < shortest:
            raise UserError(
                f"{name} lasts {recording.seconds:.3f} s, shorter than one phone: at least "
                f"{shortest / mine:.3f} s are needed"
            )
        if not float(np.abs(wave).max()) > SILENT:
            raise UserError(
                f"{name} is silent (its peak lies more than 60 dB under full scale): give a "
                "recording of speech"
            )
        return wave
