"""Letters to phones for words that no dictionary holds: a small network trained by CTC."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.files import read_json, replacing, write_json

BUNDLED = Path(__file__).parent / "g2p_en"
BLANK = 0


@dataclass(frozen=True)
class G2PConfig:
    """The spelling's letters, the phones, and the network's size.

    slots: places for a phone (or a blank) that each letter opens; X and U open two phones.
    """

    letters: tuple[str, ...]
    phones: tuple[str, ...]
    width: int = 128
    layers: int = 2
    slots: int = 3
    dropout: float = 0.05


class G2PNetwork(nn.Module):
    """A bidirectional LSTM over letters that opens `slots` places for phones at each letter."""

    def __init__(self, config: G2PConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(len(config.letters), config.width)
        self.encoder = nn.LSTM(
            config.width,
            config.width,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.width, config.slots * (1 + len(config.phones)))

    def forward(self, letters: Tensor) -> Tensor:
        """letters: (B, L) indices of words of one length -> (B, L * slots, 1 + phones).

        The result holds log-probabilities; index 0 is the blank of CTC (Graves et al. 2006).
        """
        hidden, _ = self.encoder(self.embedding(letters))
        logits = self.head(self.dropout(hidden))
        return logits.view(letters.shape[0], -1, 1 + len(self.config.phones)).log_softmax(-1)


class G2P:
    """The trained network as a function from a word to its likely pronunciations."""

    def __init__(self, network: G2PNetwork):
        self.network = network.eval()
        self._letters = {letter: i for i, letter in enumerate(network.config.letters)}

    @classmethod
    def load(cls, folder: Path | str = BUNDLED) -> G2P:
        """Read `config.json` and `weights.safetensors`; without a folder, the ones that ship."""
        values = read_json(Path(folder) / "config.json")
        values |= {key: tuple(values[key]) for key in ("letters", "phones")}
        network = G2PNetwork(G2PConfig(**values))
        weights = load_file(Path(folder) / "weights.safetensors")
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        return cls(network)

    def save(self, folder: Path | str) -> None:
        """Write what `load` reads, in half precision."""
        folder = Path(folder)
        write_json(folder / "config.json", asdict(self.network.config))
        weights = {k: v.half().contiguous() for k, v in self.network.state_dict().items()}
        with replacing(folder / "weights.safetensors") as temporary:
            save_file(weights, temporary)

    @torch.inference_mode()
    def pronounce(self, word: str, n_best: int = 1, beam: int = 12) -> list[tuple[str, ...]]:
        """The `n_best` likeliest pronunciations of an upper-case word, best first.

        Raises ValueError where the word is empty or holds anything but A to Z and '.
        """
        unknown = sorted(set(word) - set(self._letters))
        if unknown or not word:
            raise ValueError(f"{word!r}: expected letters and apostrophes, found {unknown}")
        letters = torch.tensor([[self._letters[letter] for letter in word]])
        found = prefix_beam_search(self.network(letters)[0], max(beam, n_best))
        phones = self.network.config.phones
        named = [tuple(phones[i - 1] for i in sequence) for sequence in found if sequence]
        return named[:n_best]


@cache
def bundled_g2p() -> G2P:
    """The weights that ship with the package, read once a process."""
    return G2P.load()


def prefix_beam_search(log_probs: Tensor, beam: int) -> list[tuple[int, ...]]:
    """CTC label sequences, likeliest first, summed over their blank placements.

    log_probs: (T, 1 + labels). Hannun et al. 2014, algorithm 1, without a language model.
    """
    # prefix -> probability that its path ends in a blank, and in its last label
    ended: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for frame in log_probs.exp():
        probabilities, labels = frame.topk(min(beam, frame.numel()))
        pairs = list(zip(labels.tolist(), probabilities.tolist(), strict=True))
        grown: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix: tuple[int, ...], blank: float, label: float) -> None:
            before = grown.get(prefix, (0.0, 0.0))  # noqa: B023
            grown[prefix] = (before[0] + blank, before[1] + label)  # noqa: B023

        for prefix, (blank, label) in ended.items():
            for index, probability in pairs:
                if index == BLANK:
                    add(prefix, (blank + label) * probability, 0.0)
                elif prefix and prefix[-1] == index:
                    add(prefix, 0.0, label * probability)
                    add((*prefix, index), 0.0, blank * probability)
                else:
                    add((*prefix, index), 0.0, (blank + label) * probability)
        ended = dict(sorted(grown.items(), key=lambda item: -sum(item[1]))[:beam])
    return list(ended)
