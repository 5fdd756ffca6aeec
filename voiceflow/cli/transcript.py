"""A transcript that a recogniser heard, for a person to say yes to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from voiceflow.config import UserError

if TYPE_CHECKING:
    from voiceflow.audio.io import Recording

SILENT = 1e-3  # a peak, of 1: 60 dB under full scale


def transcript_of(recording: Recording, yes: bool) -> str:
    """What pocketsphinx hears, once the person has agreed (or `yes`).

    Raises UserError where nothing is heard, the answer is no, or there is nobody to ask.
    """
    from voiceflow.alignment.types import SAMPLE_RATE
    from voiceflow.audio.io import resample
    from voiceflow.measures.words import WordRecogniser

    wave = resample(recording.mono(), recording.sample_rate, SAMPLE_RATE)
    # Of silence a recogniser makes a word.
    heard = WordRecogniser().recognise(wave) if abs(wave).max() > SILENT else ""
    name = recording.path or "the recording"
    if not heard:
        raise UserError(f"{name}: no words are heard in it: give what it says by --text")
    typer.echo(f"heard: {heard}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{name}: give what it says by --text, or --yes to take what was heard")
        if not typer.confirm("Is this what is said?", err=True):
            raise UserError("give what it says by --text")
    return heard
