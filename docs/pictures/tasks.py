"""Draws the pictures of the README's five tasks: what `mini` makes of a LibriSpeech recording.

    python docs/pictures/tasks.py corpora/LibriSpeech [FOLDER]

writes infill.jpg, edit.jpg, speak.jpg, denoise.jpg and continue.jpg, and, where FOLDER is given,
the sounds there. The recordings are of test-clean (Panayotov et al. 2015, CC BY 4.0).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep import librispeech
from voiceflow import Voice
from voiceflow.audio.io import Recording, load_mono, write
from voiceflow.generated import Generated

INPUT, PROMPT = "1089-134686-0002", "237-126133-0013"
NEW_WORD = ("YELLOW", "GOLDEN")
SAID = "the lamps of the harbour were lit before the ships came in"
WIDTH = 1100  # pixels of the pictures


def made(voice: Voice, root: Path) -> Iterator[tuple[str, Generated]]:
    """Each task and what the voice makes."""
    known = {u.id: u for u in librispeech.read(root, "test-clean")}
    given, prompt = known[INPUT], known[PROMPT]
    yield "infill", voice.infill(given.audio, given.text, [(4.20, 4.88)], seed=1)
    yield "edit", voice.edit(given.audio, given.text, given.text.replace(*NEW_WORD), seed=1)
    yield "speak", voice.speak(SAID, prompt=prompt.audio, prompt_text=prompt.text, seed=1)
    rate = voice.features.sample_rate
    samples = load_mono(given.audio, rate).copy()
    first, last = int(2.4 * rate), int(3.4 * rate)
    noise = np.random.default_rng(0).normal(0, 0.15, last - first)
    samples[first:last] += noise.astype(samples.dtype)
    with tempfile.TemporaryDirectory() as folder:
        noisy = Path(folder) / "noisy.wav"
        write(noisy, Recording.from_mono(samples, rate))
        yield "denoise", voice.denoise(noisy, given.text, [(2.4, 3.4)], seed=1)
    yield "continue", voice.continue_(given.audio, given.text, prefix=3.0, seed=1)


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("sounds", type=Path, nargs="?")
    asked = parser.parse_args()
    here = Path(__file__).parent
    for task, sound in made(Voice.load("mini"), asked.root):
        path = here / f"{task}.jpg"
        with tempfile.TemporaryDirectory() as folder:
            sound.draw(Path(folder) / "large.png", task)
            with Image.open(Path(folder) / "large.png") as picture:
                small = picture.convert("RGB")
        small.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        small.save(path, quality=82, optimize=True)
        if asked.sounds:
            sound.save(asked.sounds / f"{task}.wav")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {sound.recording.seconds:.1f} s")


if __name__ == "__main__":
    main()
