"""How far two sets of sounds are apart: the Frechet distance of vectors that describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.speaker import SpeakerLikeness

FEATURES = "voicebox16k"


def frechet_distance(
    made: np.ndarray, original: np.ndarray, components: int | None = None
) -> float:
    """Frechet distance of the normal distributions that fit made (n, D) and original (m, D).

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)

    with means m and unbiased covariances S (Dowson and Landau 1982; Heusel et al. 2017). It is a
    square, and never negative. The fewer the vectors, the larger it gets of itself: only sets of
    like counts compare. components: leave only so many principal components of the originals, at
    most min(m - 1, D). Raises ValueError for shapes that do not fit, fewer than two vectors, and
    fewer than one component.
    """
    made, original = np.asarray(made, float), np.asarray(original, float)
    if made.ndim != 2 or original.ndim != 2 or made.shape[1:] != original.shape[1:]:
        raise ValueError(f"expected (n, D) and (m, D), found {made.shape} and {original.shape}")
    if min(len(made), len(original)) < 2 or made.shape[1] < 1:
        raise ValueError(
            f"a covariance needs two vectors of each, found {made.shape} and {original.shape}"
        )
    if components is not None:
        axes = _principal(original, components)
        made, original = made @ axes, original @ axes
    apart = made.mean(0) - original.mean(0)
    # With S = R^T R the roots of S1 S2's eigenvalues, which are those of R1 S2 R1^T, are the
    # singular values of R1 R2^T: real, not negative, and nothing that was squared is rooted.
    one, other = _root(made), _root(original)
    between = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    distance = apart @ apart + (one**2).sum() + (other**2).sum() - 2 * between
    return max(float(distance), 0.0)


def _root(vectors: np.ndarray) -> np.ndarray:
    """R (min(n, D), D) of which R^T R is the covariance of vectors (n, D)."""
    centred = vectors - vectors.mean(0)
    return np.asarray(np.linalg.qr(centred, mode="r")) / np.sqrt(len(vectors) - 1)


def _principal(vectors: np.ndarray, count: int) -> np.ndarray:
    """(D, k) the first principal axes of vectors (m, D): `count`, or as many as there are."""
    if count < 1:
        raise ValueError(f"components must be at least 1, found {count}")
    _, _, axes = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    return np.asarray(axes[: min(count, len(vectors) - 1)]).T


class ResemblyzerVectors:
    """The voices' embeddings by resemblyzer (GE2E, Wan et al. 2018): are they those of the set?"""

    def __init__(self) -> None:
        self._likeness = SpeakerLikeness()

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """FSD of embeddings (256)."""
        return {"FSD (resemblyzer)": SetMetric("embedding", frechet_distance)}

    def settings(self) -> dict[str, Any]:
        """The library's version; its weights come with it."""
        return {
            "version": metadata.version("resemblyzer"),
            "model": "pretrained.pt (GE2E)",
            "components": None,
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """embedding: of what was generated, None where that is silent."""
        return [
            {"embedding": self._likeness.embedding(s.part).tolist() if s.part.any() else None}
            for s in sounds
        ]


class LogMelVectors:
    """Mean and standard deviation over frames of the log-mel: colour, level and their change."""

    def __init__(self) -> None:
        self._log_mel = LogMel(FeatureSpec.named(FEATURES))

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """FSD of statistics (160)."""
        return {"FSD (log-mel)": SetMetric("statistics", frechet_distance)}

    def settings(self) -> dict[str, Any]:
        """The front end."""
        return {"features": FEATURES, "fingerprint": self._log_mel.spec.fingerprint(),
                "components": None}  # fmt: skip

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """statistics: 80 means, then 80 deviations; None where no spectrogram can be made."""
        return [{"statistics": self._statistics(sound.part)} for sound in sounds]

    def _statistics(self, wave: np.ndarray) -> list[float] | None:
        if len(wave) <= self._log_mel.spec.n_fft // 2:
            return None
        mel = self._log_mel(torch.tensor(wave, dtype=torch.float64))
        found: list[float] = torch.cat([mel.mean(0), mel.std(0, correction=0)]).tolist()
        return found
