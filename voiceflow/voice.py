"""Voice: a model folder and what can be done with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.effects import trim_silence
from voiceflow.audio.io import Recording, resample
from voiceflow.config import SampleConfig, UserError
from voiceflow.generated import Generated
from voiceflow.generation.infill import Layout
from voiceflow.generation.likelihood import Scored, score
from voiceflow.generation.pace import check_speed
from voiceflow.generation.plan import Plan, Slot
from voiceflow.generation.prompt import EDGE_SILENCE_SECONDS, Known
from voiceflow.generation.ranking import Rank, rank
from voiceflow.generation.render import put_in, stretch
from voiceflow.generation.sample import Sampled
from voiceflow.generation.spans import Spanlike
from voiceflow.jobs import Finish, Job, SampleOptions, device_of, job_of, sample_jobs, settings_of
from voiceflow.model_folder import ModelFolder
from voiceflow.planner import Planner, Sound
from voiceflow.spoken import Part, parts_to_speak, speak_parts
from voiceflow.text.normalise import words_of
from voiceflow.vocoders.choice import Vocodes, make_vocoder, named_vocoder

PLANNED = ("infill", "edit", "continue_", "denoise", "style_transfer")
"""The tasks that `Voice.planned` plans."""

P = ParamSpec("P")


def _task(
    plan: Callable[Concatenate[Voice, P], Job],
) -> Callable[Concatenate[Voice, P], Generated]:
    """A method that plans a task, as one that does it; `Voice.planned` reaches the first."""

    @wraps(plan)
    def do(self: Voice, *args: P.args, **kwargs: P.kwargs) -> Generated:
        return self.run([plan(self, *args, **kwargs)])[0]

    do.__annotations__ = {**plan.__annotations__, "return": "Generated"}
    return do


class Voice(Planner):
    """A loaded model folder. `Voice.load("mini")` needs no network.

    A voice may be used by several threads at once. In the examples `voice` is the bundled voice,
    `mice.flac` says "who is humpy dumpy asked the mice" and `tree.flac` "I know no such place said
    the tree", both by one reader, `cap.flac` "that is a very fine cap you have he said" by another.
    """

    def __init__(
        self, folder: ModelFolder, vocoder: Vocodes | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(folder)
        self.vocoder = vocoder or make_vocoder(folder)
        self.device = device_of(device)

    @classmethod
    def load(
        cls, voice: str | Path, vocoder: str | Path | None = None, device: str = "cpu"
    ) -> Voice:
        """A bundled voice by name, or a model folder; UserError when it is not complete.

        vocoder: `griffin-lim`, a model folder whose vocoder it shall have, or a public one
        (`named_vocoder`); its own, if it has one, or Griffin-Lim where none is named. device: where
        the velocity network runs, in which nearly all of the arithmetic is; the rest stays here.
        """
        folder = ModelFolder.open(voice)
        chosen = None if vocoder is None else named_vocoder(vocoder, folder.features)
        loaded = cls(folder, chosen, device)
        _ = loaded.velocity
        return loaded

    @cached_property
    def velocity(self) -> nn.Module:
        """The velocity network, on the voice's device."""
        return self.folder.load("velocity").to(self.device)

    @_task
    def infill(
        self,
        audio: Sound,
        text: str,
        spans: Sequence[Spanlike],
        *,
        keep_length: bool = True,
        **asked: Unpack[SampleOptions],
    ) -> Job:
        """Fill spans of a recording with what the transcript says there.

        spans: (start, end) in seconds, or as a command's --span has them, "1.20:1.85=NEW WORDS".
        text: the whole transcript as it shall be. A span with words is not listened to; one
        without is heard first, to learn which words lie in it. With keep_length the fill is as
        long as the gap; without, as long as its words take. Outside the spans (widened to whole
        phones) and their 10 ms cross-fades every sample stays the recording's own.

        >>> words = "who is humpy dumpy asked the mice"
        >>> made = voice.infill("mice.flac", words, [(1.6, 2.8)])
        >>> made.save("filled.flac")
        >>> made.recording.seconds
        4.47
        """
        recording = self._recording(audio)
        found = self.plan_infill(recording, text, spans, keep_length)
        return self._filled(recording, found, text, asked)

    @_task
    def edit(
        self,
        audio: Sound,
        old: str,
        new: str,
        *,
        keep_length: bool = False,
        **asked: Unpack[SampleOptions],
    ) -> Job:
        """Make a recording that says `old` say `new`: words put in, taken out, or replaced.

        Only where the texts differ is anything generated. The length changes as the new words
        need; with keep_length it stays. Raises UserError when `old` is not what is said, the texts
        do not differ, or nothing of the recording would stay.

        >>> old = "who is humpy dumpy asked the mice"
        >>> made = voice.edit("mice.flac", old, old.replace("the mice", "a tree"))
        >>> [p["phone"] for p in made.report()["phones"] if p["phone"] != "SIL"]
        ['AH_S', 'T_B', 'R_I', 'IY_E']
        """
        recording = self._recording(audio)
        return self._filled(recording, self.plan_edit(recording, old, new, keep_length), new, asked)

    @_task
    def continue_(
        self, audio: Sound, text: str, *, prefix: float | None = None,
        **asked: Unpack[SampleOptions],
    ) -> Job:  # fmt: skip
        """Speak on after a recording's first `prefix` seconds, or after all of it.

        text: the whole text, of which the recording says the beginning, or all. The prefix ends at
        the phone edge that is nearest; what the recording holds after it is left out. Raises
        UserError where the text does not fit or nothing is left to say.

        >>> words = "I know no such place said the tree to the mice"
        >>> made = voice.continue_("tree.flac", words)
        >>> made.recording.seconds > 4.25
        True
        """
        recording = self._recording(audio)
        found = self.plan_continuation(recording, text, prefix)
        return self._filled(recording, found, text, asked)

    def speak(
        self,
        text: str,
        *,
        prompt: Sound | None = None,
        prompt_text: str | None = None,
        prompt_span: tuple[float, float] | None = None,
        speed: float = 1.0,
        durations: Path | str | None = None,
        **asked: Unpack[SampleOptions],
    ) -> Generated:
        """Speak a text; with a prompt and what it says, in the prompt's voice.

        prompt_span: only this stretch of the prompt (seconds) is heard, the whole phones in it;
        prompt_text is then still what all of the prompt says, by which its phones are found. speed:
        2 is twice as fast. durations: a file of `Generated.save_durations`, phone by phone. A long
        text is spoken sentence by sentence, all in one voice. The sound is mono at the voice's
        rate, its edges' silence trimmed to 0.1 s. Raises UserError when only one of prompt and
        prompt_text is given, or they do not fit.

        >>> said = "I know no such place said the tree"
        >>> made = voice.speak("good morning", prompt="tree.flac", prompt_text=said)
        >>> made.save("morning.wav")
        """
        check_speed(speed)
        if durations is not None and speed != 1:
            raise UserError(f"a speed of {speed:g} and a file of durations exclude each other")
        begun = self.heard_prompt(prompt, prompt_text, prompt_span)
        parts = parts_to_speak(self, text, begun, speed, durations)
        return speak_parts(parts, begun, asked, self._said, self._ranked)

    def _said(self, part: Part, begun: Known, asked: SampleOptions) -> Generated:
        plan = self.plan_after(begun, part.phones, part.predict)
        return self.run([self._job(plan, self._trimmed(plan), part.words, asked)])[0]

    @_task
    def denoise(
        self,
        audio: Sound,
        text: str,
        spans: Sequence[Spanlike] | None = None,
        **asked: Unpack[SampleOptions],
    ) -> Job:
        """Take transient noise out of a recording by speaking anew what it covers.

        text: what the recording says. spans: what the noise covers, in seconds; without them they
        are proposed (`propose_noise`). Nothing of a span is listened to: the words around it tell
        which words lie in it. Raises UserError where no noise is found or the text does not fit.

        >>> words = "who is humpy dumpy asked the mice"
        >>> made = voice.denoise("mice.flac", words, [(2.0, 2.4)])
        >>> made.recording.seconds
        4.47
        """
        recording = self._recording(audio)
        if spans is None:
            spans = self.propose_noise(recording, text)
            if not spans:
                raise UserError(
                    f"{recording.path or 'the recording'}: no noise is found in it: say where it "
                    "is by spans (seconds)"
                )
        return self._filled(recording, self.plan_denoise(recording, text, spans), text, asked)

    @_task
    def style_transfer(
        self, audio: Sound, text: str, prompt: Sound, prompt_text: str,
        **asked: Unpack[SampleOptions],
    ) -> Job:  # fmt: skip
        """Say what a recording says, with its timing, in the voice and room of a prompt.

        text, prompt_text: what the two say. The sound is mono at the voice's rate and as long as
        the recording.

        >>> said = "that is a very fine cap you have he said"
        >>> made = voice.style_transfer("mice.flac", "who is humpy dumpy asked the mice",
        ...                             "cap.flac", said)
        >>> made.recording.seconds
        4.47
        """
        recording = self._recording(audio)
        plan = self.plan_style(recording, text, self.heard_prompt(prompt, prompt_text, None))
        n_samples = round(recording.seconds * self.features.sample_rate)

        def finish(made: Tensor) -> Recording:
            (first, last), = plan.gaps
            # From the first frame's centre, which is the recording's first sample.
            wave = self.vocode(made, first, last)[self.features.hop // 2 :][:n_samples]
            wave = np.pad(wave, (0, n_samples - len(wave)))
            return Recording.from_mono(wave, self.features.sample_rate)

        return self._job(plan, finish, words_of(text), asked)

    def sample(self, text: str, count: int = 8, **asked: Unpack[SampleOptions]) -> list[Generated]:
        """Speak a text `count` times, as different speakers, with other prosody and durations.

        Guidance is 0 unless it is asked for, and durations are drawn where the voice has a network
        that draws them. Seeds are seed, seed + 1, ...

        >>> [made.seed for made in voice.sample("good morning", 2)]
        [0, 1]
        """
        if count < 1:
            raise UserError(f"count must be at least 1, found {count}")
        words = words_of(text)
        phones = self.spoken_phones(words, [])
        asked = {**asked, "guidance": asked.get("guidance") or 0.0}
        first = asked.get("seed", 0)
        nothing = list[Slot](), torch.zeros(0, self.features.n_mels)
        made = []
        for seed in range(first, first + count):
            plan = self.plan_after(nothing, phones, self.drawn(seed))
            asked["seed"] = seed
            made.append(self._job(plan, self._trimmed(plan), words, asked))
        return self.run(made)

    def settings(self, **asked: Unpack[SampleOptions]) -> SampleConfig:
        """The voice's own preset, or another by name, with what was asked for instead."""
        return settings_of(self.folder.config.sample, asked)

    def vocode(self, mel: Tensor, first: int = 0, last: int | None = None) -> np.ndarray:
        """Waveform (n,) float32 of frames first:last of un-normalised mel (T, M), see `stretch`."""
        return stretch(self.vocoder, self.features, mel, first, last)

    def render(self, recording: Recording, layout: Layout, plan: Plan, mel: Tensor) -> Recording:
        """The recording with a plan's gaps put in; mel: (T, M) un-normalised, of the plan."""
        return put_in(self.vocoder, self.features, recording, layout, plan, mel)

    def log_likelihood(
        self,
        audio: Sound,
        text: str,
        span: Spanlike | None = None,
        *,
        seed: int = 0,
        probes: int = 4,
        steps: int = 16,
        context_frames: int | None = None,
    ) -> Scored:
        """How likely a recording is, given its text; with a span, the span given the rest.

        Of the normalised log-mel (`likelihood.score`). The same seed uses the same noise and the
        same probes whatever the text, so that two texts are compared by `Scored.saved_over`.
        context_frames: how many frames on either side the network hears, the voice's own number if
        None; fewer are faster.

        >>> told = {"span": (1.6, 2.8), "probes": 1, "steps": 2, "context_frames": 60}
        >>> right = voice.log_likelihood("mice.flac", "who is humpy dumpy asked the mice", **told)
        >>> wrong = voice.log_likelihood("mice.flac", "who is dumpy humpy asked the mice", **told)
        >>> right.bits_per_dimension < wrong.bits_per_dimension
        True
        """
        plan, mel = self.plan_score(self._recording(audio), text, span)
        settings = self.settings()
        if context_frames is not None:
            settings = replace(settings, context_frames=context_frames)
        return score(self.velocity, plan, mel, self.folder.phones, settings, seed=seed,
                     probes=probes, steps=steps)  # fmt: skip

    def planned(self, task: str, **told: Any) -> Job:
        """A task by the name of its method, with its arguments, planned and not yet sampled.

        Raises UserError, beside what the task raises, for a task that is none of PLANNED.

        >>> jobs = [voice.planned("infill", audio="mice.flac", spans=[(1.6, 2.8)],
        ...                       text="who is humpy dumpy asked the mice", seed=n)
        ...         for n in range(2)]
        >>> [made.seed for made in voice.run(jobs)]
        [0, 1]
        """
        if task not in PLANNED:
            raise UserError(
                f"'{task}' cannot be planned ahead, expected one of {', '.join(PLANNED)} "
                "(speak and sample take several plans, one after another: call them themselves)"
            )
        plan: Callable[..., Job] = getattr(type(self), task).__wrapped__
        return plan(self, **told)

    def _filled(
        self, recording: Recording, found: tuple[Layout, Plan], text: str, asked: SampleOptions
    ) -> Job:
        layout, plan = found

        def finish(mel: Tensor) -> Recording:
            return self.render(recording, layout, plan, mel)

        return self._job(plan, finish, words_of(text), asked, layout)

    def _trimmed(self, plan: Plan) -> Finish:
        """A plan's last gap as a recording of its own, its edges' silence trimmed."""

        def finish(mel: Tensor) -> Recording:
            wave = self.vocode(mel, *plan.gaps[-1])
            wave = trim_silence(wave, self.features.sample_rate, EDGE_SILENCE_SECONDS)
            return Recording.from_mono(wave, self.features.sample_rate)

        return finish

    def _job(
        self, plan: Plan, finish: Finish, words: Sequence[str], asked: SampleOptions,
        layout: Layout | None = None,
    ) -> Job:  # fmt: skip
        return job_of(self.folder.config.sample, plan, finish, words, asked, layout)

    def run(self, jobs: Sequence[Job]) -> list[Generated]:
        """Sample planned tasks together; each gives what it gives alone."""
        begun = time.perf_counter()
        drawn = sample_jobs(self.velocity, self.folder.phones, jobs)
        shared = (time.perf_counter() - begun) / max(len(jobs), 1)
        return [self._finished(job, found, shared) for job, found in zip(jobs, drawn, strict=True)]

    def _finished(self, job: Job, drawn: Sequence[Sampled], sampling: float) -> Generated:
        """The best of a job's samples as sound; sampling: the seconds that these took."""
        begun = time.perf_counter()
        mels = [self.features.denormalise(one.mel[0]) for one in drawn]
        recordings = [job.finish(mel) for mel in mels]
        chosen, ranks = 0, list[Rank]()
        if len(mels) > 1:
            chosen, ranks = self._ranked(recordings, job.words)
        return Generated(
            recordings[chosen], job.plan, mels[chosen], self.features, job.settings,
            job.seed + chosen, sum(one.nfe for one in drawn),
            sum(one.network_passes for one in drawn), job.layout,
            time.perf_counter() - begun + sampling, tuple(ranks), chosen,
        )  # fmt: skip

    def _ranked(
        self, recordings: Sequence[Recording], words: Sequence[str]
    ) -> tuple[int, list[Rank]]:
        waves = [resample(r.mono(), r.sample_rate, SAMPLE_RATE) for r in recordings]
        return rank(waves, words, self.aligner)
