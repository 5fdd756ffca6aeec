"""Speaker-disjoint splits."""

from hypothesis import given
from hypothesis import strategies as st

from voiceflow.data.splits import FEWEST_SPEAKERS, SHARE, speaker_split

SPEAKERS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=200)


@given(SPEAKERS)
def test_every_speaker_is_on_one_side(speakers: list[str]) -> None:
    split = speaker_split(speakers)
    assert sorted(split["train"] + split["validation"]) == sorted(set(speakers))


@given(SPEAKERS)
def test_the_share_is_held_out_and_not_much_more(speakers: list[str]) -> None:
    held = speaker_split(speakers)["validation"]
    count = sum(s in held for s in speakers)
    if len(set(speakers)) < FEWEST_SPEAKERS:
        assert held == []
    else:
        assert count >= SHARE * len(speakers)
        assert any(count - speakers.count(s) < SHARE * len(speakers) for s in held)


@given(SPEAKERS, st.randoms(use_true_random=False))
def test_the_order_of_the_corpus_does_not_matter(speakers: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(speakers)
    random.shuffle(shuffled)
    assert speaker_split(shuffled) == speaker_split(speakers)
