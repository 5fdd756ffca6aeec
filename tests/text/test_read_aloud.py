"""Figures, signs and short forms read aloud; real transcripts, which are left as they are."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.text.normalise import words_of

NUMBERS = {
    "7": "SEVEN",
    "-5": "MINUS FIVE",
    "1,250 men": "ONE THOUSAND TWO HUNDRED FIFTY MEN",
    "3,000,000": "THREE MILLION",
    "3.14": "THREE POINT ONE FOUR",
    "0.05": "ZERO POINT ZERO FIVE",
    ".5": "POINT FIVE",
    "it was 5.": "IT WAS FIVE",
    "1/2": "ONE HALF",
    "3/4": "THREE QUARTERS",
    "5/8": "FIVE EIGHTHS",
    "1 1/2": "ONE AND A HALF",
    "1½": "ONE AND A HALF",
    "2 1/8": "TWO AND AN EIGHTH",
    "24/7": "TWENTY FOUR SEVEN",
    "10-15": "TEN TO FIFTEEN",
    "3 1/7-inch": "THREE AND A SEVENTH INCH",
    "2:1": "TWO TO ONE",
    "1st 22nd 3RD 1,000th": "FIRST TWENTY SECOND THIRD ONE THOUSANDTH",
    "#5": "NUMBER FIVE",
    "3D MP3": "THREE D MP THREE",
    "90210": "NINETY THOUSAND TWO HUNDRED TEN",
    "1000000": "ONE MILLION",
    "007": "ZERO ZERO SEVEN",
    "123456789": "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE",
    "9" * 5000: " ".join(["NINE"] * 5000),
    "555-1234": "FIVE FIVE FIVE ONE TWO THREE FOUR",
    "500-1500": "FIVE HUNDRED TO FIFTEEN HUNDRED",
    "(555) 123-4567": "FIVE FIVE FIVE ONE TWO THREE FOUR FIVE SIX SEVEN",
    "+1 800-555-1234": "PLUS ONE EIGHT ZERO ZERO FIVE FIVE FIVE ONE TWO THREE FOUR",
    "version 1.2.10": "VERSION ONE POINT TWO POINT TEN",
}
YEARS = {
    "1066": "TEN SIXTY SIX",
    "1900": "NINETEEN HUNDRED",
    "1905": "NINETEEN OH FIVE",
    "2000": "TWO THOUSAND",
    "2005": "TWO THOUSAND FIVE",
    "2010": "TWENTY TEN",
    "1914–1918": "NINETEEN FOURTEEN TO NINETEEN EIGHTEEN",
    "1999's": "NINETEEN NINETY NINE'S",
    "the 1980s": "THE NINETEEN EIGHTIES",
    "the '90s, the ’60s": "THE NINETIES THE SIXTIES",
    "the 1900s": "THE NINETEEN HUNDREDS",
    "484 B.C.": "FOUR EIGHTY FOUR B C",
    "44 BC": "FORTY FOUR B C",
}
MONEY = {
    "$5": "FIVE DOLLARS",
    "$1": "ONE DOLLAR",
    "-$5": "MINUS FIVE DOLLARS",
    "$3.50": "THREE DOLLARS AND FIFTY CENTS",
    "$0.50": "FIFTY CENTS",
    "$0.00": "ZERO DOLLARS",
    "£5.01": "FIVE POUNDS AND ONE PENNY",
    "€1999": "ONE THOUSAND NINE HUNDRED NINETY NINE EUROS",
    "$2 million": "TWO MILLION DOLLARS",
    "$1.5bn": "ONE POINT FIVE BILLION DOLLARS",
    "$5–$10": "FIVE TO TEN DOLLARS",
    "50¢": "FIFTY CENTS",
}
TIMES = {
    "3:30": "THREE THIRTY",
    "12:05": "TWELVE OH FIVE",
    "7:00": "SEVEN O'CLOCK",
    "7:00 p.m.": "SEVEN P M",
    "5 p.m.": "FIVE P M",
    "10:15am": "TEN FIFTEEN A M",
    "14:30": "FOURTEEN THIRTY",
    "14:00": "FOURTEEN HUNDRED",
    "9am-5pm": "NINE A M TO FIVE P M",
}
DATES = {
    "May 5, 1999": "MAY FIFTH NINETEEN NINETY NINE",
    "5 May 1999": "THE FIFTH OF MAY NINETEEN NINETY NINE",
    "the 5th May": "THE FIFTH OF MAY",
    "the 5th of May": "THE FIFTH OF MAY",
    "12/25/1999": "DECEMBER TWENTY FIFTH NINETEEN NINETY NINE",
    "25/12/1999": "DECEMBER TWENTY FIFTH NINETEEN NINETY NINE",
    "40/50/60": "FORTY FIFTY SIXTY",
    "1999-05-25": "MAY TWENTY FIFTH NINETEEN NINETY NINE",
    "Sept. 5": "SEPTEMBER FIFTH",
    "May 15-20": "MAY FIFTEENTH TO TWENTIETH",
    "In May 2010": "IN MAY TWENTY TEN",
    "May 45": "MAY FORTY FIVE",
}
SHORT_FORMS = {
    "Mr. and Mrs. Hill": "MISTER AND MISSUS HILL",
    "Dr Who and Prof. Li": "DOCTOR WHO AND PROFESSOR LI",
    "12 Ocean Dr., Miami": "TWELVE OCEAN DRIVE MIAMI",
    "Gen. Lee, Col. Day": "GENERAL LEE COLONEL DAY",
    "King Jr.'s": "KING JUNIOR'S",
    "St. John": "SAINT JOHN",
    "St Paul's": "SAINT PAUL'S",
    "Visit St. Louis.": "VISIT SAINT LOUIS",
    "In St. Louis": "IN SAINT LOUIS",
    "on Main St. in Boston": "ON MAIN STREET IN BOSTON",
    "42nd St. bridge": "FORTY SECOND STREET BRIDGE",
    "Acme Co., Inc.": "ACME COMPANY INCORPORATED",
    "Fifth Ave. and Sunset Blvd.": "FIFTH AVENUE AND SUNSET BOULEVARD",
    "Mt. Everest": "MOUNT EVEREST",
    "Ft. Worth": "FORT WORTH",
    "e.g. tea, i.e. leaves, etc.": "FOR EXAMPLE TEA THAT IS LEAVES ET CETERA",
    "us vs. them": "US VERSUS THEM",
    "No. 5": "NUMBER FIVE",
    "No. Not now": "NO NOT NOW",
    "pp. 5-6": "PAGES FIVE TO SIX",
    "c. 1840": "CIRCA EIGHTEEN FORTY",
    "the U.S.A., the BBC": "THE U S A THE BBC",
    "a Ph.D.": "A P H D",
}
UNITS = {
    "5 km": "FIVE KILOMETERS",
    "1 km": "ONE KILOMETER",
    "5-km run": "FIVE KILOMETER RUN",
    "5-10 kg": "FIVE TO TEN KILOGRAMS",
    "1500 m": "ONE THOUSAND FIVE HUNDRED METERS",
    "3 ft": "THREE FEET",
    "6 in. of": "SIX INCHES OF",
    "6 in a row": "SIX IN A ROW",
    "1 1/2 lbs": "ONE AND A HALF POUNDS",
    "20 %": "TWENTY PERCENT",
    "30 °C": "THIRTY DEGREES CELSIUS",
    "-5°F": "MINUS FIVE DEGREES FAHRENHEIT",
    "60 mph": "SIXTY MILES PER HOUR",
    "5'10\"": "FIVE FOOT TEN",
    "2 GB": "TWO GIGABYTES",
    "44.1 kHz": "FORTY FOUR POINT ONE KILOHERTZ",
    "10ms": "TEN MILLISECONDS",
    "5 µs": "FIVE MICROSECONDS",
    "5 m²": "FIVE SQUARE METERS",
    "300 W. Main": "THREE HUNDRED W MAIN",
}
ROMAN = {
    "Chapter IV": "CHAPTER FOUR",
    "Book XLII": "BOOK FORTY TWO",
    "Chapter IVI": "CHAPTER IVI",
    "World War II": "WORLD WAR TWO",
    "Class C and Class MIX": "CLASS C AND CLASS MIX",
    "Henry VIII": "HENRY THE EIGHTH",
    "Louis XIV's": "LOUIS THE FOURTEENTH'S",
    "King George V": "KING GEORGE THE FIFTH",
    "George V. Higgins": "GEORGE V HIGGINS",
    "Elizabeth I, queen": "ELIZABETH THE FIRST QUEEN",
    "when Henry I had asked": "WHEN HENRY I HAD ASKED",
}
WEB_AND_SIGNS = {
    "www.example.com": "W W W DOT EXAMPLE DOT COM",
    "https://x.org/a-b/": "X DOT ORG SLASH A DASH B",
    "Go to example.com.": "GO TO EXAMPLE DOT COM",
    "a@b.org": "A AT B DOT ORG",
    "He came.In time": "HE CAME IN TIME",
    "A&B": "A AND B",
    "2+2=4": "TWO PLUS TWO EQUALS FOUR",
    "3 × 4": "THREE TIMES FOUR",
    "and/or": "AND OR",
    "the boy's 'yes I do', he said": "THE BOY'S YES I DO HE SAID",
    "honesty' and no more": "HONESTY' AND NO MORE",
    "mother-in-law—so… 😀": "MOTHER IN LAW SO",
}
CASES = [NUMBERS, YEARS, MONEY, TIMES, DATES, SHORT_FORMS, UNITS, ROMAN, WEB_AND_SIGNS]

# Rows of LJSpeech 1.1 (public domain): as written, and as its reader wrote it out by hand.
LJSPEECH = [
    ("entered the house as clerk in 1800;", "entered the house as clerk in eighteen hundred;"),
    ("in 1807, and when only twenty-two,", "in eighteen oh seven, and when only twenty-two,"),
    ("a sum of £170,000.", "a sum of one hundred seventy thousand pounds."),
    ("Volume 2. Section 14: part 1", "Volume two. Section fourteen: part one"),
    ("and in 484 B.C. he captured it", "and in four eighty-four B.C. he captured it"),
    ("At about 11:45 a.m. the", "At about eleven:forty-five a.m. the"),
    ("approximately 120 feet away.", "approximately one hundred twenty feet away."),
    ("In the 6 to 8 minute period", "In the six to eight minute period"),
    ("about 5 foot 10 inches tall", "about five foot ten inches tall"),
    ("The statement of St. Jerome", "The statement of St. Jerome"),
]


@pytest.mark.parametrize(("text", "words"), [case for cases in CASES for case in cases.items()])
def test_read_aloud(text: str, words: str) -> None:
    assert words_of(text) == words.split()


@pytest.mark.parametrize(("written", "by_hand"), LJSPEECH)
def test_as_the_reader_of_ljspeech_wrote_it(written: str, by_hand: str) -> None:
    assert words_of(written) == words_of(by_hand)


def test_agrees_with_ljspeech(speech_dir: Path) -> None:
    rows = (speech_dir / "LJSpeech-1.1" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    assert rows
    for row in rows:
        _, written, by_hand = row.split("|")
        assert words_of(written) == words_of(by_hand)


@pytest.mark.parametrize("part", ["test-clean", "train-clean-5"])
def test_real_transcripts_come_out_unchanged(speech_dir: Path, part: str) -> None:
    files = sorted((speech_dir / "LibriSpeech" / part).glob("*/*/*.trans.txt"))
    assert files
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            _, transcript = line.split(" ", 1)
            assert words_of(transcript) == transcript.split(), file


PIECES = st.sampled_from(
    [text for cases in CASES for text in cases if len(text) < 40]
    + "- – : / . , ' \" $ £ % ° # & @ + \u2044 ½ ² Ω μ st th s St. Dr. I V IV a.m. ٣ é".split()
    + [" ", "\n", "0", "1", "12", "1999", "00", "99999999"]
)


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join) | st.text())
def test_read_twice_is_read_once(text: str) -> None:
    try:
        words = words_of(text)
    except UserError:
        return
    assert all(word and set(word) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'") for word in words)
    assert words_of(" ".join(words)) == words


@given(st.integers(0, 10**12), st.sampled_from(["", ",", "."]))
def test_no_figure_is_lost(value: int, mark: str) -> None:
    assert words_of(f"a{mark}{value} b{mark}{value:,}")[0] == "A"
    assert len(words_of(f"{value}{mark} {value}")) >= 2


def test_another_script_is_named_beside_figures() -> None:
    with pytest.raises(UserError, match="Д"):
        words_of("May 5, 1999, день")
    with pytest.raises(UserError, match="٣"):
        words_of("٣ apples")


@pytest.mark.parametrize("text", ["a" * 20000, "a-" * 10000, "1-" * 10000 + "x", "1." * 10000])
def test_a_long_run_takes_no_long_time(text: str) -> None:
    started = time.perf_counter()
    words_of(text)
    assert time.perf_counter() - started < 5
