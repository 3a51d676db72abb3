"""How words are pronounced: ARPAbet strings for every word that the synthesizer knows.

    >>> pronunciation("go", {})
    ('G', 'OW1')
    >>> pronunciation("fedora", {"fedora": "F AH0 D AO1 R AH0"})[:3]
    ('F', 'AH0', 'D')

Vowels carry a stress digit as in the CMU pronouncing dictionary: 1 primary, 2 secondary, 0 none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType


def pronunciation_table(table: str) -> Mapping[str, str]:
    """Reads "word PHONES, word PHONES," into word to ARPAbet string."""
    entries = (entry.split(maxsplit=1) for entry in table.split(",") if entry.strip())
    return MappingProxyType({word: phones.strip() for word, phones in entries})


VOWELS = frozenset(
    ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
)
CONSONANTS = frozenset(
    (
        *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R"),
        *("S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
    )
)

COMMAND_WORDS = (
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
    *("backward", "forward", "follow", "learn", "visual"),
)
"""The 35 words of Speech Commands version 2 (Warden 2018, arXiv:1804.03209)."""

DEFAULT_TARGETS = COMMAND_WORDS[:10]
"""The ten words of the default vocabulary."""

UNKNOWN_WORDS = (
    *COMMAND_WORDS[10:],
    *("water", "table", "coffee", "monday", "garden", "letter", "number", "paper", "window"),
    *("money", "people", "little", "under", "never", "again", "because", "good", "think"),
)
"""Words that may stand for `_unknown_` in training, wherever they are not targets."""

HELD_OUT_WORDS = (
    *("apple", "river", "yellow", "kitchen", "music", "seventy", "doctor", "over", "nose"),
    *("top", "ten", "light", "town", "self", "gone", "stuff", "yet"),
)
"""Words no model is trained on, many of them close to a target: what false accepts are made of."""

PRONUNCIATIONS = pronunciation_table(
    # Speech Commands.
    """
    yes Y EH1 S, no N OW1, up AH1 P, down D AW1 N, left L EH1 F T, right R AY1 T, on AA1 N,
    off AO1 F, stop S T AA1 P, go G OW1, zero Z IH1 R OW0, one W AH1 N, two T UW1, three TH R IY1,
    four F AO1 R, five F AY1 V, six S IH1 K S, seven S EH1 V AH0 N, eight EY1 T, nine N AY1 N,
    bed B EH1 D, bird B ER1 D, cat K AE1 T, dog D AO1 G, happy HH AE1 P IY0, house HH AW1 S,
    marvin M AA1 R V IH0 N, sheila SH IY1 L AH0, tree T R IY1, wow W AW1, backward B AE1 K W ER0 D,
    forward F AO1 R W ER0 D, follow F AA1 L OW0, learn L ER1 N, visual V IH1 ZH UW0 AH0 L,
    """
    # DSPSpeech-20.
    """
    speech S P IY1 CH, speaker S P IY1 K ER0, signal S IH1 G N AH0 L, process P R AA1 S EH2 S,
    print P R IH1 N T, open OW1 P AH0 N, close K L OW1 Z, project P R AA1 JH EH0 K T,
    """
    # Other common words.
    """
    water W AO1 T ER0, table T EY1 B AH0 L, coffee K AA1 F IY0, monday M AH1 N D EY2,
    garden G AA1 R D AH0 N, letter L EH1 T ER0, number N AH1 M B ER0, paper P EY1 P ER0,
    window W IH1 N D OW0, money M AH1 N IY0, people P IY1 P AH0 L, little L IH1 T AH0 L,
    under AH1 N D ER0, never N EH1 V ER0, again AH0 G EH1 N, because B IH0 K AO1 Z, good G UH1 D,
    think TH IH1 NG K, apple AE1 P AH0 L, river R IH1 V ER0, yellow Y EH1 L OW0,
    kitchen K IH1 CH AH0 N, music M Y UW1 Z IH0 K, seventy S EH1 V AH0 N T IY0,
    doctor D AA1 K T ER0, over OW1 V ER0, nose N OW1 Z, top T AA1 P, ten T EH1 N, light L AY1 T,
    town T AW1 N, self S EH1 L F, gone G AO1 N, stuff S T AH1 F, yet Y EH1 T,
    """
    # A grammar of spoken commands.
    """
    a AH0, an AE0 N, the DH AH0, to T AH0, for F AO0 R, at AE0 T, in IH0 N, of AH0 V, and AE0 N D,
    my M AY1, me M IY1, please P L IY1 Z, call K AO1 L, set S EH1 T, turn T ER1 N, play P L EY1,
    start S T AA1 R T, cancel K AE1 N S AH0 L, send S EH1 N D, read R IY1 D,
    message M EH1 S IH0 JH, timer T AY1 M ER0, alarm AH0 L AA1 R M, lights L AY1 T S,
    volume V AA1 L Y UW0 M, song S AO1 NG, minute M IH1 N AH0 T, minutes M IH1 N AH0 T S,
    hour AW1 ER0, hours AW1 ER0 Z, eleven IH0 L EH1 V AH0 N, twelve T W EH1 L V,
    fifteen F IH0 F T IY1 N, twenty T W EH1 N T IY0, thirty TH ER1 T IY0, forty F AO1 R T IY0,
    fifty F IH1 F T IY0, today T AH0 D EY1, tomorrow T AH0 M AA1 R OW0, morning M AO1 R N IH0 NG,
    evening IY1 V N IH0 NG, home HH OW1 M, mother M AH1 DH ER0, anna AE1 N AH0, ben B EH1 N,
    clara K L EH1 R AH0, david D EY1 V IH0 D, emma EH1 M AH0, henry HH EH1 N R IY0,
    julia JH UW1 L Y AH0, lucas L UW1 K AH0 S, maria M ER0 IY1 AH0, oliver AA1 L AH0 V ER0,
    peter P IY1 T ER0, sophie S OW1 F IY0,
    """
    # Sentences: spelled letters, numbers, dates, corrections.
    """
    b B IY1, c S IY1, d D IY1, e IY1, f EH1 F, g JH IY1, h EY1 CH, i AY1, j JH EY1, k K EY1,
    l EH1 L, m EH1 M, n EH1 N, o OW1, p P IY1, q K Y UW1, r AA1 R, s EH1 S, t T IY1, u Y UW1,
    v V IY1, w D AH1 B AH0 L Y UW0, x EH1 K S, y W AY1, z Z IY1, oh OW1, thirteen TH ER1 T IY1 N,
    fourteen F AO1 R T IY1 N, sixteen S IH1 K S T IY1 N, seventeen S EH1 V AH0 N T IY1 N,
    eighteen EY1 T IY1 N, nineteen N AY1 N T IY1 N, sixty S IH1 K S T IY0, eighty EY1 T IY0,
    ninety N AY1 N T IY0, hundred HH AH1 N D R AH0 D, thousand TH AW1 Z AH0 N D, half HH AE1 F,
    first F ER1 S T, second S EH1 K AH0 N D, third TH ER1 D, fifth F IH1 F TH, ninth N AY1 N TH,
    twelfth T W EH1 L F TH, fifteenth F IH0 F T IY1 N TH, thirtieth TH ER1 T IY0 AH0 TH,
    january JH AE1 N Y UW0 EH2 R IY0, february F EH1 B R UW0 EH2 R IY0, march M AA1 R CH,
    april EY1 P R AH0 L, may M EY1, june JH UW1 N, july JH UH0 L AY1, august AO1 G AH0 S T,
    september S EH0 P T EH1 M B ER0, october AA0 K T OW1 B ER0, november N OW0 V EH1 M B ER0,
    december D IH0 S EH1 M B ER0, enter EH1 N T ER0, erase IH0 R EY1 S, rubout R AH1 B AW2 T,
    repeat R IH0 P IY1 T, help HH EH1 L P, said S EH1 D, not N AA1 T, meant M EH1 N T,
    room R UW1 M, drive D R AY1 V, far F AA1 R, is IH1 Z, remind R IY0 M AY1 N D, text T EH1 K S T,
    next N EH1 K S T, pause P AO1 Z, what W AH1 T, time T AY1 M, it IH1 T, from F R AH1 M,
    noon N UW1 N, wake W EY1 K, with W IH1 DH, meet M IY1 T, met M EH1 T, back B AE1 K,
    """
)
"""Word to ARPAbet, in the style of the CMU pronouncing dictionary (one common variant each)."""


def parse_phones(word: str, phones: str) -> tuple[str, ...]:
    """Splits the ARPAbet string of a word; a vowel without a stress digit gets primary stress.

    Raises:
      ValueError: if a symbol is not ARPAbet, or there is no vowel.
    """
    symbols = []
    for symbol in phones.upper().split():
        bare, stress = (symbol[:-1], symbol[-1]) if symbol[-1] in "012" else (symbol, "")
        if bare in VOWELS:
            symbols.append(bare + (stress or "1"))
        elif bare in CONSONANTS and not stress:
            symbols.append(bare)
        else:
            raise ValueError(
                f"the pronunciation of {word!r} holds {symbol!r}, which is no ARPAbet symbol; "
                f"vowels (with stress 0, 1 or 2): {' '.join(sorted(VOWELS))}; "
                f"consonants: {' '.join(sorted(CONSONANTS))}"
            )
    if not any(symbol[-1].isdigit() for symbol in symbols):
        raise ValueError(f"the pronunciation of {word!r} needs a vowel, got {phones!r}")
    return tuple(symbols)


def sentence_pronunciation(sentence: str, extra: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Returns the phones of each word of a sentence; raises like `pronunciation`."""
    words = sentence.split()
    # An "a" beside another single letter is the letter, as in "n a g"; else it is the article.
    spelled = [len(word) == 1 and word not in "ai" for word in words]
    beside = [any(spelled[max(0, place - 1) : place + 2]) for place in range(len(words))]
    return tuple(
        ("EY1",) if word == "a" and near else pronunciation(word, extra)
        for word, near in zip(words, beside, strict=True)
    )


def speakable(words: Iterable[str], extra: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the words that have a pronunciation, built in or in `extra`."""
    return tuple(word for word in words if word in extra or word in PRONUNCIATIONS)


def pronunciation(word: str, extra: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the phones of a lower-case word, vowels with their stress digit.

    `extra` maps further words to ARPAbet strings; they win over the built-in ones.

    Raises:
      ValueError: if the word is in neither, saying how to add one.
    """
    phones = extra.get(word, PRONUNCIATIONS.get(word))
    if phones is None:
        raise ValueError(
            f"no pronunciation for {word!r} ({len(PRONUNCIATIONS)} words are built in): say it in "
            'ARPAbet, as "HH AH0 L OW1" says hello, in the [lexicon] of the scenario or with '
            f"`pretrain --lexicon '{word}=...'`"
        )
    return parse_phones(word, phones)
