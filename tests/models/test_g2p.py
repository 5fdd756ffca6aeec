"""The letters-to-phones network: decoding against brute force, weights on words held out."""

import itertools
import random
from pathlib import Path

import pytest
import torch

from voiceflow.models.g2p import BUNDLED, G2P, G2PConfig, G2PNetwork, prefix_beam_search
from voiceflow.text.lexicon import english_dictionary_path, read_dictionary
from voiceflow.training.g2p import edit_distance, phone_error_rate, split


def test_beam_search_sums_over_all_paths() -> None:
    log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=5):
        labels = tuple(label for label, _ in itertools.groupby(path) if label)
        score = sum(log_probs[t, label] for t, label in enumerate(path)).exp().item()
        totals[labels] = totals.get(labels, 0.0) + score
    best = sorted(totals, key=lambda labels: -totals[labels])
    assert prefix_beam_search(log_probs, beam=1000)[:10] == best[:10]


def test_shapes_and_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = G2PNetwork(G2PConfig(("A", "B"), ("AH", "B", "T"), width=8))
    assert network(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 15, 4)
    g2p = G2P(network)
    g2p.save(tmp_path)
    assert G2P.load(tmp_path).pronounce("AB", 3) == g2p.pronounce("AB", 3)


def test_words_of_other_letters_are_refused() -> None:
    g2p = G2P.load()
    for word in ("", "café", "TWO WORDS"):
        with pytest.raises(ValueError, match="letters"):
            g2p.pronounce(word)


def test_the_weights_that_ship() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 5e6
    _, held = split(read_dictionary(english_dictionary_path()))
    sample = random.Random(0).sample(sorted(held), 300)
    rate, _ = phone_error_rate(G2P.load(), {word: held[word] for word in sample})
    assert rate < 0.10


def test_several_guesses_differ_and_start_with_the_best() -> None:
    g2p = G2P.load()
    guesses = g2p.pronounce("GRINGOIRE", 4)
    assert len(set(guesses)) == 4 and guesses[:1] == g2p.pronounce("GRINGOIRE")


def test_edit_distance() -> None:
    assert edit_distance(("A", "B", "C"), ("A", "C")) == 1
    assert edit_distance((), ("A", "B")) == 2
    assert edit_distance(("A", "B"), ("B", "A")) == 2
