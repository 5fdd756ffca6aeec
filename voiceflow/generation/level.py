"""Fills brought to a recording's level and laid over its background.

A fill is made from features that were conditioned on its surroundings, so what is left to correct
is what the way back to sound does. That is measured where both are known: a fill with wide margins
holds resynthesised surroundings, which are compared with the recording itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from voiceflow.audio.effects import active
from voiceflow.audio.io import Recording, to_float
from voiceflow.config import UserNote
from voiceflow.data.masking import generator_for
from voiceflow.generation.splice import Fill, channel_gains, fade_length, in_order, kept_beside

CONTEXT_SECONDS = 0.5
LARGEST_GAIN_DB = 6.0
# Where the background is listened for, beside a span.
_BACKGROUND_SECONDS = 2.0
# The background is what is heard in the quietest tenth of the frames.
_QUIET_SHARE = 0.1
_FEWEST_FRAMES = 10
_WINDOW_SECONDS = 0.032
# Frames and bins over which a spectrum is smoothed before it is compared with the background.
_SMOOTHED = (5, 9)
# A recording has more band than a voice if this much of its power lies over a tenth above the top.
_BAND_DB = -60.0
_MARGIN_OF_BAND = 1.1
_BLOCK_FRAMES = 300  # so that a recording of hours is not analysed at once


def context_length(sample_rate: int) -> int:
    """Samples of a Fill's margin that `matched` can measure by: half a second."""
    return round(CONTEXT_SECONDS * sample_rate)


def matched(
    recording: Recording, pieces: Sequence[Fill], *, top_hz: float | None = None, seed: int = 0
) -> list[Fill]:
    """The fills, ready for `splice`: (m, C) each, at the recording's level and with its background.

    Level: each channel's own beside the span, by one gain of at most 6 dB either way, which makes
    the resynthesis of the surroundings as loud as they are (a fill without wide margins keeps its
    own). Constant offset: the recording's. Background: where a fill is quieter than the quietest
    frames of the recording beside it, noise with the missing power is added, in each channel
    unrelated. A fill that is noisier is left so: a gate would take breath and soft consonants with
    the noise, and what it left would be heard to come and go.

    top_hz: the highest frequency of the fills, above which levels are not compared; None for all.
    The same seed gives the same noise. Raises ValueError as `splice` does.
    """
    old = to_float(recording.samples)
    rate, n = recording.sample_rate, len(old)
    ordered = in_order(recording, pieces)
    spans = [piece.span for piece in ordered]
    reach = round(_BACKGROUND_SECONDS * rate)
    made = []
    for piece in ordered:
        beside = [old[a:b] for a, b in kept_beside(spans, piece.span, reach, n)]
        offset = np.concatenate(beside).mean(axis=0, dtype=np.float64) if beside else np.zeros(1)
        new = piece.samples.astype(np.float64)
        new = new - new.mean(axis=0)
        if new.ndim == 1:
            new = new[:, None] * channel_gains(old, spans, piece.span, rate)
        new *= loudness_gain(_known(old, new, piece, spans, rate), beside, rate, top_hz)
        background = quiet_spectrum([part - offset for part in beside], rate)
        if background is not None:
            new += noise_up_to(background, new, rate, generator_for("noise", seed, *piece.span))
        unheard = 0 if piece.margin is None else piece.margin - fade_length(rate)
        sound = (new + offset)[unheard : len(new) - unheard].astype(np.float32)
        made.append(Fill(*piece.span, sound))
    return made


def _known(
    old: np.ndarray, new: np.ndarray, piece: Fill, spans: Sequence[tuple[int, int]], rate: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The recording beside a span and its resynthesis in the fill's margins, (k, C) each."""
    margin = fade_length(rate) if piece.margin is None else piece.margin
    start, end = piece.span
    for first, last in kept_beside(spans, piece.span, margin, len(old)):
        if last == start:
            yield old[first:last], new[margin - (last - first) : margin]
        elif first == end:
            past = len(new) - margin
            yield old[first:last], new[past : past + last - first]


def loudness_gain(
    known: Iterable[tuple[np.ndarray, np.ndarray]],
    beside: Sequence[np.ndarray],
    sample_rate: int,
    top_hz: float | None = None,
) -> float:
    """What brings resynthesised speech to the level of the recorded, within 6 dB either way.

    known: pairs (k, C) of what was recorded and its resynthesis; beside: (n, C) each, more of the
    recording, by whose loudest frame it is told whether what is known is speech. Powers are
    compared below top_hz in frames of speech; 1 where there are fewer than ten.
    """
    peak = max((float(_power(part, sample_rate, top_hz).max(initial=0)) for part in beside),
               default=0.0)  # fmt: skip
    old, new = 0.0, 0.0
    frames = 0
    for recorded, resynthesis in known:
        power = _power(recorded, sample_rate, top_hz)
        speech = active(power, peak)
        frames += int(speech.sum())
        old += power[speech].sum()
        new += _power(resynthesis, sample_rate, top_hz)[speech].sum()
    if frames < _FEWEST_FRAMES or old == 0 or new == 0:
        return 1.0
    most = 10 ** (LARGEST_GAIN_DB / 20)
    return float(np.clip(np.sqrt(old / new), 1 / most, most))


def _power(wave: np.ndarray, sample_rate: int, top_hz: float | None) -> np.ndarray:
    """(n, C) -> (T,) power of the frames below top_hz, but for the constant; maybe no frames."""
    n_fft, hop = _frames(sample_rate)
    if len(wave) < n_fft:
        return np.zeros(0)
    top = None if top_hz is None else int(top_hz / sample_rate * n_fft)
    spectra = _spectra(wave - wave.mean(axis=0), n_fft, hop)
    power: np.ndarray = spectra[:, 1:top].sum(dim=(0, 1)).numpy()
    return power


def quiet_spectrum(parts: Sequence[np.ndarray], sample_rate: int) -> Tensor | None:
    """(C, F) mean power spectrum of the quietest tenth of the frames; None for too little sound.

    parts: (n, C) each, of one recording, without constant offset.
    """
    n_fft, hop = _frames(sample_rate)
    spectra = [_spectra(part, n_fft, hop) for part in parts if len(part) >= n_fft]
    if not spectra:
        return None
    power = torch.cat(spectra, dim=2)
    if power.shape[2] < _FEWEST_FRAMES:
        return None
    count = max(round(_QUIET_SHARE * power.shape[2]), _FEWEST_FRAMES // 2)
    quietest = power.sum(dim=(0, 1)).argsort(stable=True)[:count]
    return power[:, :, quietest].mean(dim=2)


def noise_up_to(
    background: Tensor, sound: np.ndarray, sample_rate: int, generator: torch.Generator
) -> np.ndarray:
    """(m, C) Gaussian noise with the power that a sound lacks to a background, bin by bin.

    background: (C, F) as `quiet_spectrum` gives it; sound: (m, C). Frames of white noise take the
    square root of the missing power as their spectrum: there is none where the sound is louder.
    """
    n_fft, hop = _frames(sample_rate)
    white = torch.randn(sound.shape[::-1], generator=generator, dtype=torch.float64)
    window = torch.hann_window(n_fft, dtype=torch.float64)

    def frames(x: Tensor) -> Tensor:
        return torch.stft(x, n_fft, hop, window=window, pad_mode="constant", return_complex=True)

    there = _smoothed(_squared(frames(torch.from_numpy(sound.T.copy()))), _SMOOTHED)
    wanted = _smoothed(background[:, :, None].expand_as(there), (1, _SMOOTHED[1]))
    missing = (wanted - there).clamp(min=0)
    shaped = frames(white) * (missing / (window**2).sum()).sqrt()
    noise: np.ndarray = torch.istft(shaped, n_fft, hop, window=window, length=len(sound)).numpy().T
    return noise


def note_band(recording: Recording, top_hz: float, stacklevel: int = 2) -> None:
    """A UserNote if the recording holds sound well above the highest frequency of a voice.

    By what is heard in it and not by its sample rate: one that was merely brought to a higher rate
    loses nothing.
    """
    if not sounds_above(recording, top_hz):
        return
    name = recording.path.name if recording.path else "the recording"
    warnings.warn(
        f"{name} is at {recording.sample_rate} Hz and holds sound above {top_hz / 1000:g} kHz: "
        f"new sound ends there, at the highest frequency that this voice knows, but for the noise "
        f"of the background",
        UserNote,
        stacklevel=stacklevel + 1,
    )


def sounds_above(recording: Recording, hz: float) -> bool:
    """Whether more than a millionth of the power lies over a tenth above a frequency."""
    n_fft, _ = _frames(recording.sample_rate)
    first = int(np.ceil(_MARGIN_OF_BAND * hz / recording.sample_rate * n_fft))
    if first > n_fft // 2:
        return False
    block = _BLOCK_FRAMES * n_fft
    power = torch.zeros(n_fft // 2 + 1, dtype=torch.float64)
    for start in range(0, len(recording.samples), block):
        wave = to_float(recording.samples[start : start + block])
        wave = np.pad(wave - wave.mean(axis=0), ((0, -len(wave) % n_fft), (0, 0)))
        power += _spectra(wave, n_fft, n_fft).sum(dim=(0, 2))
    return bool(power[first:].sum() > 10 ** (_BAND_DB / 10) * power.sum())


def _frames(sample_rate: int) -> tuple[int, int]:
    """Samples of a window and of a hop, a quarter of it."""
    hop = max(round(_WINDOW_SECONDS / 4 * sample_rate), 1)
    return 4 * hop, hop


def _spectra(wave: np.ndarray, n_fft: int, hop: int) -> Tensor:
    """(n, C), n >= n_fft -> power spectra (C, F, T) of the frames that lie in it."""
    window = torch.hann_window(n_fft, dtype=torch.float64)
    frames = torch.from_numpy(wave.T.astype(np.float64)).unfold(1, n_fft, hop)
    return _squared(torch.fft.rfft(frames * window)).transpose(1, 2)


def _squared(spectrum: Tensor) -> Tensor:
    """Squared magnitudes; several times as fast as by `abs`."""
    power: Tensor = torch.view_as_real(spectrum).square().sum(dim=-1)
    return power


def _smoothed(power: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, F, T) averaged over size[0] frames and size[1] bins, of fewer at the edges."""
    pooled: Tensor = torch.nn.functional.avg_pool2d(
        power[None], (size[1], size[0]), 1, (size[1] // 2, size[0] // 2), count_include_pad=False
    )[0]
    return pooled
