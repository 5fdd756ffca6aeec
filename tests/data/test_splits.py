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


@given(SPEAKERS, st.lists(st.text("xyz", min_size=1, max_size=3), max_size=200))
def test_other_speakers_change_no_one_s_turn(speakers: list[str], others: list[str]) -> None:
    """Of those who were there more are held out, or fewer; never one in another's place."""
    before = set(speaker_split(speakers)["validation"])
    after = set(speaker_split(speakers + others)["validation"]) & set(speakers)
    assert before <= after or after <= before


@given(SPEAKERS, st.integers(1, 5))
def test_more_of_each_speaker_changes_nothing(speakers: list[str], times: int) -> None:
    assert speaker_split(speakers * times) == speaker_split(speakers)


@given(SPEAKERS, st.randoms(use_true_random=False))
def test_the_order_of_the_corpus_does_not_matter(speakers: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(speakers)
    random.shuffle(shuffled)
    assert speaker_split(shuffled) == speaker_split(speakers)
