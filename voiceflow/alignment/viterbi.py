"""The best path through a graph of phone states, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = -1e30


@dataclass(frozen=True)
class Graph:
    """States of a left-to-right network; every state may also stay where it is.

    classes: (S,) the class that each state emits; before: for each state, the states that it may
    be entered from; first, last: where a path may begin and end.
    """

    classes: tuple[int, ...]
    before: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """states: (T,) of the graph, one a frame; score: sum of their log posteriors."""

    states: Tensor
    score: float


def words_graph(words: Sequence[Sequence[Sequence[int]]], silence: int = 0) -> Graph:
    """Words in a row, each as one of its pronunciations, with silence or none at every border.

    words: for each word its pronunciations, each a sequence of classes. States stand in the order:
    silence, first word's pronunciations one after the other, silence, second word's, ...
    """
    classes: list[int] = [silence]
    before: list[tuple[int, ...]] = [()]
    pause = 0
    ends: tuple[int, ...] = ()
    first: list[int] = [0]
    for pronunciations in words:
        entered_from = (pause, *ends)
        starts, new_ends = [], []
        for pronunciation in pronunciations:
            starts.append(len(classes))
            for place, symbol in enumerate(pronunciation):
                before.append((len(classes) - 1,) if place else entered_from)
                classes.append(symbol)
            new_ends.append(len(classes) - 1)
        if pause == 0:
            first += starts
        pause, ends = len(classes), tuple(new_ends)
        classes.append(silence)
        before.append(ends)
    return Graph(tuple(classes), tuple(before), tuple(first), (pause, *ends))


def ctc_graph(labels: Sequence[int], blank: int = 0) -> Graph:
    """CTC's own: blanks may stand between labels, and must between equal ones (Graves 2006)."""
    classes: list[int] = [blank]
    before: list[tuple[int, ...]] = [()]
    for place, label in enumerate(labels):
        state = len(classes)
        skip = place > 0 and labels[place - 1] != label
        before += [(state - 1, *((state - 2,) if skip else ())), (state,)]
        classes += [label, blank]
    end = len(classes) - 1
    last = (end, end - 1) if labels else (end,)
    return Graph(tuple(classes), tuple(before), (0, 1) if labels else (0,), last)


def best_paths(
    log_probs: Tensor, lengths: Sequence[int], graphs: Sequence[Graph]
) -> list[Path | None]:
    """The likeliest path of each item, None where the graph wants more frames than there are.

    log_probs: (B, T, C); lengths: frames of each item. Time is walked once for all items; every
    step is over (B, S, P), P the most ways into a state and one for staying.
    """
    device, n_items = log_probs.device, len(graphs)
    n_states = max(len(g.classes) for g in graphs)
    n_ways = 1 + max(len(b) for g in graphs for b in g.before)
    classes = torch.zeros(n_items, n_states, dtype=torch.long)
    sources = torch.full((n_items, n_states, n_ways), n_states)  # the state that is never reached
    score = torch.full((n_items, n_states + 1), IMPOSSIBLE)
    for i, graph in enumerate(graphs):
        classes[i, : len(graph.classes)] = torch.tensor(graph.classes)
        for state, before in enumerate(graph.before):
            sources[i, state, 0] = state
            sources[i, state, 1 : 1 + len(before)] = torch.tensor(before, dtype=torch.long)
        score[i, list(graph.first)] = 0.0
    classes, sources, score = (x.to(device) for x in (classes, sources, score))
    flat = sources.flatten(1)
    most = max(lengths)
    ways = torch.zeros(most, n_items, n_states, dtype=torch.uint8, device=device)
    ends = torch.zeros(n_items, n_states, device=device)
    limits = torch.tensor(list(lengths), device=device)
    for t in range(most):
        if t > 0:
            entered = score.gather(1, flat).view(n_items, n_states, n_ways)
            best, way = entered.max(2)
            ways[t] = way
            score[:, :n_states] = best
        score[:, :n_states] += log_probs[:, t].gather(1, classes)
        finished = (limits == t + 1).unsqueeze(1)
        ends = torch.where(finished, score[:, :n_states], ends)
    return [
        _trace(graphs[i], ends[i].cpu(), ways[: lengths[i], i].cpu(), sources[i].cpu())
        for i in range(n_items)
    ]


def _trace(graph: Graph, ends: Tensor, ways: Tensor, sources: Tensor) -> Path | None:
    last = max(graph.last, key=lambda state: float(ends[state]))
    if float(ends[last]) < IMPOSSIBLE / 2:
        return None
    steps, way_into = ways.numpy(), sources.numpy()
    states = [last]
    for t in range(len(steps) - 1, 0, -1):
        states.append(int(way_into[states[-1], steps[t, states[-1]]]))
    return Path(torch.tensor(states[::-1]), float(ends[last]))
