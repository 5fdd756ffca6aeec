"""The best path: against brute force, CTC's trellis, batches, and words with pauses."""

from collections.abc import Sequence
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from voiceflow.alignment.viterbi import Graph, Path, best_paths, ctc_graph, words_graph


def posteriors(frames: int, classes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, classes, generator=generator, dtype=torch.float64).log_softmax(1)


def one(log_probs: Tensor, graph: Graph) -> Path | None:
    return best_paths(log_probs[None].float(), [len(log_probs)], [graph])[0]


def allowed(states: Sequence[int], graph: Graph) -> bool:
    """Whether the graph has the path."""
    ends = states[0] in graph.first and states[-1] in graph.last
    return ends and all(a == b or a in graph.before[b] for a, b in pairwise(states))


def score_of(states: Sequence[int], log_probs: Tensor, graph: Graph) -> float:
    return sum(float(log_probs[t, graph.classes[s]]) for t, s in enumerate(states))


def brute_force(log_probs: Tensor, graph: Graph) -> float | None:
    """The best score of all sequences of states that the graph allows."""
    every = product(range(len(graph.classes)), repeat=len(log_probs))
    return max((score_of(s, log_probs, graph) for s in every if allowed(s, graph)), default=None)


GRAPHS = [
    words_graph([[[1, 2]]]),
    words_graph([[[1]], [[2]]]),
    words_graph([[[1, 2], [3]]]),
    words_graph([[[1], [2]], [[1]]]),
    ctc_graph([1, 2]),
    ctc_graph([1, 1]),
    ctc_graph([]),
]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_the_best_path_is_that_of_brute_force(graph: Graph, frames: int) -> None:
    for seed in range(4):
        log_probs = posteriors(frames, 4, seed)
        found, wanted = one(log_probs, graph), brute_force(log_probs, graph)
        if wanted is None:
            assert found is None
        else:
            assert found is not None
            states = found.states.tolist()  # several may be as good
            assert allowed(states, graph)
            assert score_of(states, log_probs, graph) == pytest.approx(wanted, abs=1e-6)
            assert found.score == pytest.approx(wanted, abs=1e-4)


def trellis(log_probs: Tensor, labels: Sequence[int]) -> float:
    """Score of CTC forced alignment as torchaudio has it: one pass over 2 L + 1 states."""
    states = [0, *(s for label in labels for s in (label, 0))]
    alpha = torch.full((len(states),), float("-inf"), dtype=torch.float64)
    alpha[0] = log_probs[0, 0]
    alpha[1] = log_probs[0, states[1]]
    for row in log_probs[1:]:
        before = alpha.clone()
        for i, label in enumerate(states):
            ways = [before[i], before[i - 1] if i else before[i]]
            if i > 1 and label != 0 and label != states[i - 2]:
                ways.append(before[i - 2])
            alpha[i] = max(ways) + row[label]
    return float(max(alpha[-1], alpha[-2]))


@pytest.mark.parametrize("labels", [[1, 2, 3], [2, 2, 1], [3, 1, 1, 1, 2]])
def test_ctcs_own_graph_scores_as_the_trellis_does(labels: list[int]) -> None:
    for seed in range(5):
        log_probs = posteriors(12, 5, seed)
        found = one(log_probs, ctc_graph(labels))
        assert found is not None
        assert found.score == pytest.approx(trellis(log_probs, labels), abs=1e-4)


def test_a_batch_gives_what_single_items_give() -> None:
    graphs = [GRAPHS[i] for i in (2, 4, 1, 3)]
    lengths = [7, 12, 2, 9]
    items = [posteriors(n, 4, n).float() for n in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=5.0)
    together = best_paths(padded, lengths, graphs)
    for item, graph, found in zip(items, graphs, together, strict=True):
        alone = one(item, graph)
        assert found is not None
        assert alone is not None
        assert torch.equal(found.states, alone.states)
        assert found.score == alone.score


def spoken(path: Path, graph: Graph) -> list[int]:
    """Classes of the states that the path goes through, one after the other."""
    return [graph.classes[s] for s in torch.unique_consecutive(path.states).tolist()]


def certain(classes: Sequence[int], n_classes: int = 6) -> Tensor:
    """Posteriors of frames that say these classes clearly."""
    heard = torch.nn.functional.one_hot(torch.tensor(classes), n_classes)
    return (9.0 * heard).log_softmax(1)


def test_silence_is_taken_where_it_is_heard_and_not_elsewhere() -> None:
    graph = words_graph([[[1, 2]], [[3]]])
    for heard in ([1, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2, 0, 0, 3, 0], [1, 2, 2, 0, 3]):
        found = one(certain(heard), graph)
        assert found is not None
        assert spoken(found, graph) == torch.unique_consecutive(torch.tensor(heard)).tolist()


def test_the_pronunciation_that_is_heard_is_kept() -> None:
    graph = words_graph([[[1, 2], [1, 3, 4]], [[5]]])
    for said in ([1, 2], [1, 3, 4]):
        found = one(certain([0, *said, 5, 5]), graph)
        assert found is not None
        assert spoken(found, graph) == [0, *said, 5]


def test_equal_phones_in_a_row_are_two() -> None:
    graph = words_graph([[[1]], [[1]]])
    found = one(certain([1, 1, 1, 1]), graph)
    assert found is not None
    assert len(torch.unique_consecutive(found.states)) == 2


def test_what_does_not_fit_has_no_path() -> None:
    graph = words_graph([[[1, 2, 3]]])
    assert one(posteriors(2, 4, 0), graph) is None
    found = one(posteriors(3, 4, 0), graph)
    assert found is not None
    assert spoken(found, graph) == [1, 2, 3]
