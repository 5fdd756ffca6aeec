"""Who is trained on and who is held out: no speaker is in both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

FEWEST_SPEAKERS = 10
SHARE = 0.03  # of the utterances, at the least


def speaker_split(speakers: Iterable[str]) -> dict[str, list[str]]:
    """{"train": speakers, "validation": speakers}, by each utterance's speaker (or a Counter).

    Validation takes speakers in the order of their names' hashes, whatever else is in the corpus,
    until it has SHARE of the utterances; none where there are fewer than FEWEST_SPEAKERS.
    """
    counts = Counter(speakers)
    order = sorted(counts, key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    validation: list[str] = []
    total = sum(counts.values())
    if len(order) >= FEWEST_SPEAKERS:
        held = 0
        for speaker in order:
            if held >= SHARE * total:
                break
            validation.append(speaker)
            held += counts[speaker]
    return {"train": sorted(set(order) - set(validation)), "validation": sorted(validation)}
