"""The same sentences by two voices: one trained on aligned phones, one on unaligned letters.

    python recipes/aligned_or_not/speak.py --data LibriSpeech --subset test-clean --pairs 60 \\
        --aligned runs/aligned/model --unaligned runs/letters/model --letters LEXICON --out OUT

writes OUT/pairs.lst, a list for `voiceflow benchmark --protocol librispeech-pc --list`, and
OUT/aligned/TRIAL.wav and OUT/unaligned/TRIAL.wav for its --outputs. Each sentence has another
utterance of the same reader as its prompt, whole. The unaligned voice is told how long the
recording of the sentence is; the aligned one takes the durations that the voice `mini` predicts.
What is there already stays.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import track

from voiceflow.audio.io import Recording, load_mono, write
from voiceflow.benchmark.protocols import LISTED
from voiceflow.cli.prepare import read_utterances
from voiceflow.config import SampleConfig, UserError, load_group
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.files import replacing
from voiceflow.generation.plan import Plan
from voiceflow.jobs import Job
from voiceflow.measures.subject import spread_over_speakers
from voiceflow.model_folder import ModelFolder
from voiceflow.text.lexicon import ClosedLexicon
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import SILENCE, positioned
from voiceflow.vocoders.choice import named_vocoder
from voiceflow.voice import Voice

SECONDS = (4.0, 8.0)  # of prompt and of sentence: together no longer than what is trained on
# The context is whole: cut to what is near the gap, it would lose the unaligned text.
SETTINGS = replace(load_group(SampleConfig, "sample", "fast"), context_frames=2000)
Pair = tuple[Utterance, Utterance]


def pairs_of(utterances: list[Utterance], count: int) -> list[Pair]:
    """(prompt, sentence) of one reader each, the prompt drawn by the sentence's id."""
    fitting = [u for u in utterances if SECONDS[0] <= (u.seconds or 0) <= SECONDS[1]]
    found: list[Pair] = []
    for sentence in spread_over_speakers(fitting, None):
        others = [u for u in fitting if u.speaker == sentence.speaker and u.id != sentence.id]
        if others:
            drawn = torch.randint(len(others), (), generator=generator_for("pair", 0, sentence.id))
            found.append((others[int(drawn)], sentence))
    return found[:count]


def write_list(path: Path, pairs: list[Pair]) -> None:
    """As `benchmark.protocols.read_list` reads it."""
    rows = ("\t".join((p.id, f"{p.seconds:.4f}", p.text, s.id, f"{s.seconds:.4f}", s.text))
            for p, s in pairs)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text("".join(row + "\n" for row in rows), "utf-8")


def voice_of(model: str, like: Voice) -> Voice:
    """A trained velocity network with the vocoder and the durations of another voice."""
    folder = ModelFolder.open(model)
    voice = Voice(folder, named_vocoder(like.folder.path, folder.features))
    voice.__dict__["duration"] = like.duration
    return voice


def unaligned(voice: Voice, letters: ClosedLexicon, pair: Pair, seed: int) -> Recording:
    """A sentence after its prompt, in the time that its recording takes."""
    prompt, sentence = pair
    rate = voice.features.sample_rate
    known = voice.log_mel(torch.from_numpy(load_mono(prompt.audio, rate)))
    n_new = voice.features.n_frames(len(load_mono(sentence.audio, rate)))
    words = words_of(f"{prompt.text} {sentence.text}")
    symbols = [s for word in words for s in positioned(letters.pronunciations(word)[0])]
    context = torch.zeros(len(known) + n_new, voice.features.n_mels)
    context[: len(known)] = voice.features.normalise(known)
    gap = (len(known), len(context))
    plan = Plan(
        (*symbols, SILENCE), (*[1] * len(symbols), len(context) - len(symbols)), context,
        torch.arange(len(context)) >= gap[0], (gap,),
    )  # fmt: skip

    def finish(mel: torch.Tensor) -> Recording:
        return Recording.from_mono(voice.vocode(mel, *gap), rate)

    job = Job(plan, finish, tuple(words), voice.settings(settings=SETTINGS), seed)
    return voice.run([job])[0].recording


def main() -> None:
    """Parse the command line and speak what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("data", "aligned", "unaligned", "letters", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--subset", default="test-clean")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    pairs = pairs_of(read_utterances(asked.data, asked.subset), asked.pairs)
    if not pairs:
        raise UserError(f"{asked.data}: no reader has two utterances of 4 to 8 s")
    write_list(asked.out / "pairs.lst", pairs)
    mini, letters = Voice.load("mini"), ClosedLexicon(asked.letters)
    first, second = (voice_of(str(model), mini) for model in (asked.aligned, asked.unaligned))
    for number, pair in enumerate(track(pairs, "sentences")):
        name = f"{LISTED}-{number:05d}-{pair[1].id}.wav"
        if not (path := asked.out / "aligned" / name).exists():
            first.speak(
                pair[1].text, prompt=pair[0].audio, prompt_text=pair[0].text, seed=asked.seed,
                settings=SETTINGS,
            ).save(path)  # fmt: skip
        if not (path := asked.out / "unaligned" / name).exists():
            write(path, unaligned(second, letters, pair, asked.seed))


if __name__ == "__main__":
    main()
