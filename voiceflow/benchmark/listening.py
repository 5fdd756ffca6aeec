"""Examples of a result to be heard: players, spectrograms, and what a recogniser heard."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from voiceflow.audio.io import Recording, from_float, read
from voiceflow.benchmark.systems import ORIGINAL, PROMPT, RESYNTHESIS
from voiceflow.benchmark.tables import Results, finite, tasks_of
from voiceflow.measures.words import normalised

_RANDOM = 3  # examples beside the best and the worst
_MOST_BYTES = 6_000_000  # of the page, about
_BYTES_IN_PAGE = 0.8  # of FLAC in base64, picture and all, for one of 16-bit PCM


def listening(
    results: Results, trials: Sequence[Results], voice: str, folder: Path
) -> Iterator[str]:
    """Trials of a voice to listen to: the best, the worst, and some at random."""
    sounding = [t for t in trials if _sound(t, voice, folder) is not None]
    chosen = _chosen(sounding, voice, results["protocol"]["seed"])
    share = _MOST_BYTES / len(tasks_of(results))
    while len(chosen) > 2 and _page_bytes(chosen, voice, folder) > share:
        chosen.pop()
    if not chosen:
        return
    yield f"<h3>Listening to {escape(voice)}</h3>"
    yield (
        '<p class="quiet">The best and the worst by word errors, and some at random. Spectrograms '
        "of a trial are drawn to one scale of time, 0 to 8 kHz. In what the recogniser heard, "
        "<mark>marked</mark> words are not those of the text, and <del>struck</del> ones are "
        "missing.</p>"
    )
    for why, trial in chosen:
        yield _example(trial, voice, folder, why)


def _chosen(trials: Sequence[Results], voice: str, seed: int) -> list[tuple[str, Results]]:
    """Why, and which: by share of wrong words, ties by id, then others by the seed."""
    ordered = sorted(trials, key=lambda trial: str(trial["id"]))
    counted = [(e[0] / e[1], t) for t in ordered if (e := errors_in(t, voice)) is not None]
    found = []
    if counted:
        found.append(("best", min(counted, key=lambda pair: pair[0])[1]))
    if len(counted) > 1:
        worst = max(share for share, _ in counted)
        others = [t for share, t in counted if share == worst and t is not found[0][1]]
        found += [("worst", t) for t in others[:1]]
    rest = [t for t in ordered if all(t is not other for _, other in found)]
    drawn = random.Random(f"listening {seed}").sample(rest, min(_RANDOM, len(rest)))
    return found + [("at random", t) for t in drawn]


def _sound(trial: Results, system: str, folder: Path) -> Path | None:
    """A trial's sound, if it is there."""
    name = trial.get("sounds", {}).get(system)
    return folder / name if name and (folder / name).is_file() else None


def _sounds(trial: Results, voice: str, folder: Path) -> dict[str, Path]:
    systems = (PROMPT, ORIGINAL, RESYNTHESIS, voice)
    return {s: path for s in systems if (path := _sound(trial, s, folder)) is not None}


def _page_bytes(chosen: Sequence[tuple[str, Results]], voice: str, folder: Path) -> float:
    """About how much of the page examples take."""
    paths = [path for _, trial in chosen for path in _sounds(trial, voice, folder).values()]
    return _BYTES_IN_PAGE * sum(path.stat().st_size for path in paths)


def _example(trial: Results, voice: str, folder: Path, why: str) -> str:
    """A trial: its text, and of each sound a player, a spectrogram, and what was heard."""
    from voiceflow.pictures.benchmark import spectrogram_png

    sounds = {s: read(path) for s, path in _sounds(trial, voice, folder).items()}
    longest = max(sound.seconds for sound in sounds.values())
    mels = {s: mel for s, sound in sounds.items() if (mel := _log_mel(sound)) is not None}
    every = np.concatenate(list(mels.values())) if mels else np.zeros(1)
    low, high = float(np.percentile(every, 3)), float(every.max())
    figures = []
    for system, sound in sounds.items():
        seconds = f"{sound.seconds:.1f} s"
        parts = [
            f"<figcaption>{escape(system)} <small>{escape(_counted(trial, system) or seconds)}"
            "</small></figcaption>",
            f'<audio controls preload="metadata" aria-label="{escape(system)}, {seconds}" '
            f'src="{_uri("audio/flac", _flac(sound))}"></audio>',
        ]
        if system in mels:
            picture = _uri("image/png", spectrogram_png(mels[system], low, high))
            width = 100 * sound.seconds / longest
            parts.append(
                f'<div class="band"><img alt="spectrogram of {escape(system)}, {seconds}" '
                f'style="width:{width:.1f}%" src="{picture}"></div>'
            )
        heard = _heard(trial, system).get("hypothesis")
        if isinstance(heard, str):
            parts.append(f'<p class="heard">{_marked(trial["text"], heard)}</p>')
        figures.append(f"<figure>{''.join(parts)}</figure>")
    return (
        f'<article class="example"><h4>{escape(why)} <small>{escape(str(trial["id"]))}, '
        f"speaker {escape(str(trial['speaker']))}</small></h4>"
        f'<p class="said">{escape(trial["text"])}</p>'
        f'<div class="sounds">{"".join(figures)}</div></article>'
    )


def _heard(trial: Results, system: str) -> Results:
    """What the first scorer told that heard words."""
    told: Mapping[str, Results] = trial["scores"].get(system, {})
    return next((score for score in told.values() if "word_errors" in score), {})


def errors_in(trial: Results, system: str) -> tuple[float, float] | None:
    """Word errors and words of a trial; None where they were not counted."""
    scores = _heard(trial, system)
    errors, words = scores.get("word_errors"), scores.get("words")
    return (errors, words) if finite(errors) and finite(words) and words > 0 else None


def _counted(trial: Results, system: str) -> str:
    counts = errors_in(trial, system)
    if counts is None:
        return ""
    errors, words = (int(n) for n in counts)
    return f"{errors} error{'s' * (errors != 1)} in {words} word{'s' * (words != 1)}"


def _log_mel(sound: Recording) -> np.ndarray | None:
    """(T, M); None of a sound too short for a frame."""
    import torch

    from voiceflow.audio.features import FeatureSpec, LogMel
    from voiceflow.audio.io import resample

    spec = FeatureSpec()
    wave = resample(sound.mono(), sound.sample_rate, spec.sample_rate)
    try:
        return LogMel(spec)(torch.from_numpy(wave)).numpy()
    except ValueError:
        return None


def _flac(sound: Recording) -> bytes:
    """The sound, mono of 16 bits."""
    import soundfile

    written = io.BytesIO()
    samples = from_float(sound.mono(), "PCM_16")
    soundfile.write(written, samples, sound.sample_rate, format="FLAC", compression_level=1.0)
    return written.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _marked(said: str, heard: str) -> str:
    """What was heard, as HTML: words that were not said marked, words that are missing struck.

    Both texts are normalised as `measures.words.word_errors` does, which counts the same.
    """
    import jiwer

    wanted, found = normalised(said).split(), normalised(heard).split()
    if not wanted or not found:
        chunks = [("insert", [], found), ("delete", wanted, [])]
    else:
        [aligned] = jiwer.process_words(" ".join(wanted), " ".join(found)).alignments
        chunks = [
            (chunk.type, wanted[chunk.ref_start_idx : chunk.ref_end_idx],
             found[chunk.hyp_start_idx : chunk.hyp_end_idx])
            for chunk in aligned
        ]  # fmt: skip
    parts = []
    for kind, missing, words in chunks:
        text = escape(" ".join(missing if kind == "delete" else words))
        tag = {"delete": "del", "equal": ""}.get(kind, "mark")
        if text:
            parts.append(f"<{tag}>{text}</{tag}>" if tag else text)
    return " ".join(parts)
