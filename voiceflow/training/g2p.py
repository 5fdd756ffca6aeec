"""Train the letters-to-phones network on pocketsphinx's dictionary.

    python -m voiceflow.training.g2p --minutes 11     writes voiceflow/models/g2p_en
    python -m voiceflow.training.g2p --evaluate       only tests what is there

Both print the phone error rate on the words held out.
"""

from __future__ import annotations

import argparse
import math
import random
import time
import zlib
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from voiceflow.models.g2p import BLANK, BUNDLED, G2P, G2PConfig, G2PNetwork
from voiceflow.text.lexicon import Pronunciation, english_dictionary_path, read_dictionary
from voiceflow.text.phones import ARPABET

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
Entries = dict[str, list[Pronunciation]]


def split(entries: Entries) -> tuple[Entries, Entries]:
    """Words to learn from and the words held out: one in twenty, by the word's hash."""
    usable = {word: said for word, said in entries.items() if not set(word) - set(LETTERS)}
    held = {word for word in usable if zlib.crc32(word.encode()) % 20 == 0}
    return (
        {word: said for word, said in usable.items() if word not in held},
        {word: said for word, said in usable.items() if word in held},
    )


def edit_distance(left: Pronunciation, right: Pronunciation) -> int:
    """Levenshtein distance in phones."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def phone_error_rate(g2p: G2P, entries: Entries) -> tuple[float, float]:
    """Phone and word error rate of the best guess, against the nearest listed variant."""
    errors = phones = wrong = 0
    for word, variants in entries.items():
        guess = (g2p.pronounce(word) or [()])[0]
        distance, length = min((edit_distance(guess, v), len(v)) for v in variants)
        errors += distance
        phones += length
        wrong += distance > 0
    return errors / phones, wrong / len(entries)


def batches(entries: Entries, config: G2PConfig, size: int, rng: random.Random) -> list[list[str]]:
    """Words of one length a batch, in random order; words with more phones than slots left out."""
    by_length = defaultdict(list)
    for word, variants in entries.items():
        if all(2 * len(v) <= config.slots * len(word) + 1 or len(word) > 3 for v in variants):
            by_length[len(word)].append(word)
    found = []
    for words in by_length.values():
        rng.shuffle(words)
        found += [words[i : i + size] for i in range(0, len(words), size)]
    rng.shuffle(found)
    return found


def loss_of(network: G2PNetwork, words: list[str], said: list[Pronunciation]) -> Tensor:
    """CTC loss per phone of words of one length."""
    phone_index = {phone: i + 1 for i, phone in enumerate(network.config.phones)}
    letter_index = {letter: i for i, letter in enumerate(network.config.letters)}
    letters = torch.tensor([[letter_index[letter] for letter in word] for word in words])
    log_probs = network(letters).transpose(0, 1)
    lengths = torch.tensor([len(s) for s in said])
    targets = torch.tensor([phone_index[phone] for s in said for phone in s])
    times = torch.full((len(words),), log_probs.shape[0])
    total = nn.functional.ctc_loss(
        log_probs, targets, times, lengths, BLANK, reduction="sum", zero_infinity=True
    )
    return total / lengths.sum()


def train(minutes: float, seed: int, size: int, peak: float) -> tuple[G2P, Entries]:
    """The network trained for `minutes` of wall time, and the words held out."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    learn, held = split(read_dictionary(english_dictionary_path()))
    config = G2PConfig(tuple(LETTERS), ARPABET)
    network = G2PNetwork(config)
    optimiser = torch.optim.AdamW(network.parameters(), peak, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, epoch, mean = time.monotonic(), 0, 0, float("nan")
    print(f"{len(learn)} words, {sum(p.numel() for p in network.parameters())} parameters")
    while True:
        epoch += 1
        for words in batches(learn, config, size, rng):
            done = (time.monotonic() - start) / (60 * minutes)
            if done >= 1:
                return G2P(network), held
            rate = min((step + 1) / 200, 0.5 * (1 + math.cos(math.pi * done)))
            optimiser.param_groups[0]["lr"] = peak * rate
            loss = loss_of(network, words, [rng.choice(learn[word]) for word in words])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            mean = loss.item() if step == 1 else 0.99 * mean + 0.01 * loss.item()
            if step % 200 == 0:
                elapsed = time.monotonic() - start
                print(f"epoch {epoch} update {step} loss {mean:.3f} {elapsed:.0f} s", flush=True)


def main() -> None:
    """Train and write the folder, or not; print the error rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--minutes", type=float, default=11.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--evaluate", action="store_true")
    options = parser.parse_args()
    if options.evaluate:
        _, held = split(read_dictionary(english_dictionary_path()))
    else:
        g2p, held = train(options.minutes, options.seed, options.batch, options.rate)
        g2p.save(options.out)
    phones, words = phone_error_rate(G2P.load(options.out), held)
    print(f"held out: {len(held)} words, PER {100 * phones:.1f} %, WER {100 * words:.1f} %")


if __name__ == "__main__":
    main()
