"""Figures and signs as one says them: rules in their order, each a small regular expression.

Each needs a digit or a sign and gives upper-case words, so none fires on what another has read.
Readings are American; of two, the commoner: 1250 is a year, 3/4 a fraction, 12/5/1999 December.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Reader = Callable[[re.Match[str]], str | None]

_MOST_DIGITS = 36  # past that num2words has names that nobody says
_FEWEST_OF_A_CODE = 7
_NUMBER = r"(?:(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)"
_DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
_MONTHS = """January February March April May June July August September October November
    December""".split()
_MONTH = rf"(?:{'|'.join(_MONTHS)}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
_FRACTION = r"(?:(?P<whole>\d+)\s+)?(?P<top>\d{1,2})/(?P<bottom>\d{1,3})(?![\d/])"
_SAID_FRACTIONS = {*range(2, 11), 12, 16, 20, 32, 64, 100}
_IRREGULAR = {"SIX": "SIXES", "FOOT": "FEET", "INCH": "INCHES"}


@dataclass(frozen=True)
class Rule:
    """`read` gives the words for what `pattern` found, or None to leave it to a later rule."""

    name: str
    pattern: re.Pattern[str]
    read: Reader

    def apply(self, text: str) -> str:
        """The text with all that the rule reads replaced by words."""
        return self.pattern.sub(self._replaced, text)

    def _replaced(self, found: re.Match[str]) -> str:
        words = self.read(found)
        if words is None:
            return found[0]
        # An apostrophe after it stays on its word: the U.S. Co.'s, 1999's.
        return f" {words}" if found.string[found.end() :].startswith("'") else f" {words} "


def apply(rules: Iterable[Rule], text: str) -> str:
    """The text after each rule in turn."""
    for each in rules:
        text = each.apply(text)
    return text


def read_aloud(text: str) -> str:
    """The text with figures and signs as upper-case words; the rest as it was.

    Expects ASCII apostrophes and no accents; other letters pass through.
    """
    return apply(RULES, text)


def number(digits: str) -> str:
    """A number as written: 1,250 is a count, 1250 a year, 0042 and 5551234 are digits."""
    if re.fullmatch(r"1\d{3}|20\d{2}", digits):
        return year(digits)
    whole, point, decimals = digits.partition(".")
    plain = whole.replace(",", "")
    is_long = plain == whole and len(plain) >= _FEWEST_OF_A_CODE and not plain.endswith("000")
    is_code = is_long or (len(plain) > 1 and plain.startswith("0"))
    said = by_digit(plain) if is_code else count(plain)
    return f"{said} POINT {by_digit(decimals)}".strip() if point else said


def count(digits: str) -> str:
    """A whole number as a quantity; one too long for that is read by its digits."""
    digits = digits.replace(",", "")
    if not digits or len(digits) > _MOST_DIGITS:
        return by_digit(digits)
    return _num2words(int(digits), "cardinal")


def ordinal(digits: str) -> str:
    """THIRD, TWENTY SECOND."""
    digits = digits.replace(",", "")
    too_long = len(digits) > _MOST_DIGITS
    return f"{by_digit(digits)} TH" if too_long else _num2words(int(digits), "ordinal")


def year(digits: str) -> str:
    """NINETEEN OH FIVE, NINETEEN HUNDRED, TWO THOUSAND FIVE, TWENTY TEN, FOUR EIGHTY FOUR."""
    century, rest = divmod(int(digits), 100)
    if not century or (century % 10 == 0 and rest < 10):
        return count(digits)
    if not rest:
        return f"{count(str(century))} HUNDRED"
    return f"{count(str(century))} {'OH ' if rest < 10 else ''}{count(str(rest))}"


def by_digit(digits: str) -> str:
    """Each digit for itself; what stands between them is left out."""
    return " ".join(_DIGITS[int(d)] for d in digits if d.isdigit())


def plural(words: str) -> str:
    """Of a number or a unit, on the word that takes it: NINETIES, MILES PER HOUR."""
    if words.startswith("DEGREE"):
        return words.replace("DEGREE", "DEGREES", 1)
    head, per, rest = words.partition(" PER ")
    start, _, last = head.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("TY"):
        last = last[:-1] + "IES"
    elif not last.endswith(("HERTZ", "PERCENT")):
        last += "S"
    return f"{start} {last}{per}{rest}".strip()


def _num2words(value: int, how: str) -> str:
    from num2words import num2words

    said: str = num2words(value, to=how)
    return " ".join(re.findall("[A-Z]+", said.upper().replace(" AND ", " ")))


def _quantity(text: str) -> str:
    """A number, a fraction (1 1/2) or a range (10-15)."""
    if found := re.fullmatch(_FRACTION, text, re.ASCII):
        return _fraction(found)
    first, *last = re.split("[-–]", text)
    return " TO ".join(number(part) for part in (first, *last))


def _fraction(found: re.Match[str]) -> str:
    top, bottom = int(found["top"]), int(found["bottom"])
    whole = f"{number(found['whole'])} AND " if found["whole"] else ""
    if bottom not in _SAID_FRACTIONS or not 0 < top < bottom:
        return f"{whole.removesuffix('AND ')}{number(found['top'])} {number(found['bottom'])}"
    part = {2: "HALF", 4: "QUARTER"}.get(bottom) or ordinal(str(bottom))
    if top > 1:
        return f"{whole}{count(str(top))} {plural(part)}"
    one = ("AN" if part.startswith("E") else "A") if whole else "ONE"
    return f"{whole}{one} {part}"


# --- digits that are no amount


def _telephone(found: re.Match[str]) -> str | None:
    if re.fullmatch(r"\d{3}-[1-9]\d00", found[0]):
        return None  # 500-1500 is a range
    return ("PLUS " if found[0].startswith("+") else "") + by_digit(found[0])


# --- dates and times


def _month_day(found: re.Match[str]) -> str | None:
    return _date(found["month"], found["day"], found["year"], to=found["last"])


def _day_month(found: re.Match[str]) -> str | None:
    if not 1 <= int(found["day"]) <= 31:
        return None
    said = f"THE {ordinal(found['day'])} OF {_month(found['month'])}"
    return f"{said} {year(found['year'])}" if found["year"] else said


def _slashed_date(found: re.Match[str]) -> str | None:
    first, second = int(found["first"]), int(found["second"])
    month, day = (second, first) if first > 12 else (first, second)
    if not 1 <= month <= 12:
        return None
    return _date(_MONTHS[month - 1], str(day), found["year"])


def _iso_date(found: re.Match[str]) -> str | None:
    month = int(found["month"])
    return _date(_MONTHS[month - 1], found["day"], found["year"]) if 1 <= month <= 12 else None


def _date(month: str, day: str, in_year: str | None, to: str | None = None) -> str | None:
    if not all(1 <= int(d) <= 31 for d in (day, to or day)):
        return None
    said = f"{_month(month)} {ordinal(day)}" + (f" TO {ordinal(to)}" if to else "")
    return f"{said} {_year_of_date(in_year)}" if in_year else said


def _year_of_date(digits: str) -> str:
    if len(digits) == 2 and digits[0] == "0":
        return "OH OH" if digits == "00" else f"OH {by_digit(digits[1])}"
    return year(digits)


def _month(name: str) -> str:
    return next(month for month in _MONTHS if month[:3] == name[:3]).upper()


def _time(found: re.Match[str]) -> str | None:
    hour, minutes, half = int(found["hour"]), found["minutes"], found["half"]
    if hour > 24:
        return None
    said = ["TO"] if found["to"] else []
    said.append(count(str(hour)))
    if minutes and minutes != "00":
        said.append(_year_of_date(minutes))
    elif not half and not found["seconds"]:
        said.append("O'CLOCK" if 1 <= hour <= 12 else "HUNDRED")
    if found["seconds"]:
        said.append(_year_of_date(found["seconds"]))
    return " ".join([*said, half.upper(), "M"] if half else said)


# --- money and measures

_MONEY = {
    "$": ("DOLLAR", "DOLLARS", "CENT", "CENTS"),
    "£": ("POUND", "POUNDS", "PENNY", "PENCE"),
    "€": ("EURO", "EUROS", "CENT", "CENTS"),
    "¥": ("YEN", "YEN", "SEN", "SEN"),
    "₹": ("RUPEE", "RUPEES", "PAISA", "PAISE"),
}
_SCALES = {"k": "THOUSAND", "m": "MILLION", "b": "BILLION", "bn": "BILLION"}
_PREFIXES = {
    **{"n": "NANO", "μ": "MICRO", "m": "MILLI", "c": "CENTI", "h": "HECTO", "k": "KILO"},
    **{"K": "KILO", "M": "MEGA", "G": "GIGA", "T": "TERA"},
}
_PREFIXED = {
    "m": ("METER", "nμmck"),
    "g": ("GRAM", "μmk"),
    "Hz": ("HERTZ", "kMG"),
    "B": ("BYTE", "kKMGT"),
    "W": ("WATT", "mkMG"),
    "V": ("VOLT", "mk"),
    "Wh": ("WATT HOUR", "kMG"),
    "J": ("JOULE", "kM"),
    "Pa": ("PASCAL", "hkM"),
    "bps": ("BIT PER SECOND", "kMG"),
}
_UNITS = {
    **{unit: name for unit, (name, _) in _PREFIXED.items() if unit not in ("B", "J")},
    **{
        prefix + unit: _PREFIXES[prefix] + name
        for unit, (name, prefixes) in _PREFIXED.items()
        for prefix in prefixes
    },
    **{"Ω": "OHM", "kΩ": "KILOHM", "MΩ": "MEGOHM"},
    **{"m2": "SQUARE METER", "km2": "SQUARE KILOMETER", "m3": "CUBIC METER"},
    **{"sq ft": "SQUARE FOOT", "sq. ft": "SQUARE FOOT"},
    **{"sq mi": "SQUARE MILE", "sq. mi": "SQUARE MILE", "ha": "HECTARE"},
    **{"ft": "FOOT", "in.": "INCH", "yd": "YARD", "mi": "MILE"},
    **{"lb": "POUND", "lbs": "POUND", "oz": "OUNCE", "gal": "GALLON"},
    **{"l": "LITER", "L": "LITER", "ml": "MILLILITER", "mL": "MILLILITER"},
    **{"mph": "MILE PER HOUR", "kph": "KILOMETER PER HOUR", "km/h": "KILOMETER PER HOUR"},
    **{"m/s": "METER PER SECOND", "ft/s": "FOOT PER SECOND"},
    **{"rpm": "REVOLUTION PER MINUTE", "fps": "FRAME PER SECOND"},
    **{"s": "SECOND", "sec": "SECOND", "secs": "SECOND", "min": "MINUTE", "mins": "MINUTE"},
    **{"h": "HOUR", "hr": "HOUR", "hrs": "HOUR", "ms": "MILLISECOND", "ns": "NANOSECOND"},
    **{"μs": "MICROSECOND", "dB": "DECIBEL", "cal": "CALORIE", "kcal": "KILOCALORIE"},
    **{"mA": "MILLIAMP", "%": "PERCENT", "¢": "CENT"},
    **{"°C": "DEGREE CELSIUS", "° C": "DEGREE CELSIUS", "°": "DEGREE"},
    **{"°F": "DEGREE FAHRENHEIT", "° F": "DEGREE FAHRENHEIT"},
}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))


def _money(found: re.Match[str]) -> str:
    one, many, cent, cents = _MONEY[found["sign"]]
    amount, last = found["amount"], found["last"]
    scale = found["scale"] and _SCALES.get(found["scale"].lower(), found["scale"].upper())
    if scale or last or not re.search(r"\.\d\d$", amount):
        said = " TO ".join(_never_a_year(part) for part in (amount, last) if part)
        return f"{said} {scale} {many}" if scale else f"{said} {one if said == 'ONE' else many}"
    whole, _, hundredths = amount.partition(".")
    parts = [(count(whole or "0"), one, many), (count(hundredths), cent, cents)]
    spoken = [f"{n} {name if n == 'ONE' else names}" for n, name, names in parts if n != "ZERO"]
    return " AND ".join(spoken) or f"ZERO {many}"


def _never_a_year(digits: str) -> str:
    return number(digits) if "." in digits else count(digits)


def _measure(found: re.Match[str]) -> str | None:
    amount, unit = found["amount"], found["unit"]
    if unit in ("W", "V") and found.string[found.end() :].startswith("."):
        return None  # 300 W. Main Street
    said = _quantity(amount) if re.search("[-–/]", amount) else _never_a_year(amount)
    # A hyphen makes an adjective, which has no plural: a 5-km run.
    is_part = "/" in amount and " " not in amount
    is_one = said == "ONE" or is_part or found["join"] == "-"
    return f"{said} {_UNITS[unit] if is_one else plural(_UNITS[unit])}"


# --- signs and the rules

_BEFORE_NUMBERS = {
    **{"no": "NUMBER", "nos": "NUMBERS", "p": "PAGE", "pp": "PAGES", "ch": "CHAPTER"},
    **{"chap": "CHAPTER", "vol": "VOLUME", "vols": "VOLUMES", "fig": "FIGURE"},
    **{"figs": "FIGURES", "sec": "SECTION", "c": "CIRCA", "ca": "CIRCA"},
}
_SIGNS = {
    **{"&": "AND", "%": "PERCENT", "+": "PLUS", "@": "AT", "=": "EQUALS", "°": "DEGREES"},
    **{"×": "TIMES", "÷": "DIVIDED BY", "±": "PLUS OR MINUS", "§": "SECTION"},
}


def rule(name: str, pattern: str, read: Reader | str) -> Rule:
    """A rule of ASCII digits and letters; words alone say the same of all it finds."""
    reader = (lambda found: read) if isinstance(read, str) else read
    return Rule(name, re.compile(pattern, re.ASCII), reader)


_NOT_IN_NUMBER = r"(?<![\w.,:/-])"
_AMOUNT = rf"(?P<amount>(?<![\d/.,])(?:\d+\s+)?\d{{1,2}}/\d{{1,3}}|{_NUMBER}(?:[-–]{_NUMBER})?)"
RULES = (
    rule(
        "ISO date",
        rf"{_NOT_IN_NUMBER}(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)(?![\w-])",
        _iso_date,
    ),
    rule(
        "telephone",
        r"(?<![\w.,$£€-])(?:\+\d[\d -]{6,}\d|(?:1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-.]\d{4}"
        r"|\d{3}-\d{4}|\d+(?:-\d+){2,})(?![\w-]|\.\d)",
        _telephone,
    ),
    rule(
        "version",
        r"(?<![\d.,])\d+(?:\.\d+){2,}",
        lambda found: " POINT ".join(map(number, found[0].split("."))),
    ),
    rule("minus", r"(?<![\w)\]\"'.,–-])[-−–](?=[$£€]?\.?\d)", "MINUS"),
    rule(
        "before a number",
        r"(?<![\w.'])([Nn]os?|[Pp]p?|[Vv]ols?|[Cc]h|[Cc]hap|[Ff]igs?|Sec|ca?)\.\s*(?=\d)",
        lambda found: _BEFORE_NUMBERS[found[1].lower()],
    ),
    rule("number sign", r"#\s?(?=\d)", "NUMBER"),
    rule(
        "slashed date",
        r"(?<![\d/])(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<year>\d{4}|\d\d)(?![\d/])",
        _slashed_date,
    ),
    rule(
        "day and month",
        rf"(?:\b[Tt]he\s+)?{_NOT_IN_NUMBER}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+"
        rf"(?P<month>{_MONTH})(?!\w)(?:,?\s+(?P<year>\d{{4}})(?![\w-]))?",
        _day_month,
    ),
    rule(
        "month and day",
        rf"\b(?P<month>{_MONTH})\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
        r"(?:[-–](?P<last>\d{1,2})(?:st|nd|rd|th)?)?"
        r"(?:,?\s+(?P<year>\d{4}))?(?!\w|[.,:/–-]\d)",
        _month_day,
    ),
    rule(
        "era",
        r"(?<![\w.,])(\d{1,4})\s?(B\.?C\.?E|B\.?C|A\.?D|C\.?E)\b\.?",
        lambda found: f"{year(found[1])} {' '.join(found[2].replace('.', ''))}",
    ),
    rule(
        "time",
        r"(?P<to>(?<=[\dmM.])\s?[-–]\s?)?(?<![\d:.,/$£€])(?P<hour>\d{1,2})"
        r"(?::(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?(?:\s?(?P<half>[apAP])\.?[mM]\b\.?)?"
        r"(?![\w:]|\.\d))",
        _time,
    ),
    rule(
        "hour",
        r"(?P<to>(?<=[\dmM.])\s?[-–]\s?)?(?<![\w:.,/$£€])(?P<hour>\d{1,2})"
        r"(?P<minutes>)(?P<seconds>)\s?(?P<half>[apAP])\.?[mM]\b\.?",
        _time,
    ),
    rule(
        "money",
        rf"(?P<sign>[$£€¥₹])\s?(?P<amount>{_NUMBER})(?:[-–]\s?[$£€¥₹]?(?P<last>{_NUMBER}))?"
        r"(?:\s?(?P<scale>(?i:hundred|thousand|million|billion|trillion)|(?<=\d)(?:bn|[kKmMbB]))\b)?",
        _money,
    ),
    rule(
        "feet and inches",
        r"(?<![\w.,])(\d{1,2})'\s?(\d{1,2})(?:\"|'')",
        lambda found: f"{count(found[1])} FOOT {count(found[2])}",
    ),
    rule("decade", r"(?<![\w.,])(\d+)(?:s|(?<=0)'s)\b", lambda found: plural(number(found[1]))),
    rule("measure", rf"{_AMOUNT}(?P<join>\s?|-)(?P<unit>{_UNIT})(?![\w'])", _measure),
    rule("ordinal", r"(\d[\d,]*)(?i:st|nd|rd|th)\b", lambda found: ordinal(found[1])),
    rule("fraction", rf"(?<![\d/.,]){_FRACTION}", _fraction),
    rule(
        "range",
        rf"(?<![\w.,:/-]){_NUMBER}[-–]{_NUMBER}(?![\d/–-]|[.,:]\d)",
        lambda found: _quantity(found[0]),
    ),
    rule("ratio", r"(?<![\d:])(\d+):(?=\d)", lambda found: f"{number(found[1])} TO"),
    rule("number", _NUMBER, lambda found: number(found[0])),
    rule("digits left over", r"\d+", lambda found: number(found[0])),
    rule("sign", rf"[{''.join(_SIGNS)}]", lambda found: _SIGNS[found[0]]),
)
