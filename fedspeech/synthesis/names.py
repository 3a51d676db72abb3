"""Pronunciations of names of people and places: the entries of the phones' contact lists.

Public speakers say every second name, and a base for sentences is trained on those; only phones
say the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from fedspeech.synthesis.lexicon import pronunciation_table

PEOPLE = pronunciation_table(
    """
    abel EY1 B AH0 L, adele AH0 D EH1 L, agnes AE1 G N AH0 S, alma AE1 L M AH0, amir AH0 M IH1 R,
    anton AE1 N T AA0 N, arun AH0 R UW1 N, astrid AE1 S T R IH0 D, bela B EY1 L AH0,
    bruno B R UW1 N OW0, camille K AH0 M IY1 L, carmen K AA1 R M AH0 N, cyril S IH1 R AH0 L,
    dalia D AA1 L Y AH0, dmitri D AH0 M IY1 T R IY0, edgar EH1 D G ER0, elias IH0 L AY1 AH0 S,
    esther EH1 S T ER0, farid F AH0 R IY1 D, felix F IY1 L IH0 K S, freya F R EY1 AH0,
    gustav G UH1 S T AA0 V, hanna HH AE1 N AH0, hector HH EH1 K T ER0, igor IY1 G AO0 R,
    ingrid IH1 NG G R IH0 D, irene AY0 R IY1 N, jonas Y OW1 N AH0 S, judith JH UW1 D IH0 TH,
    kamal K AH0 M AA1 L, katya K AA1 T Y AH0, lars L AA1 R Z, leila L EY1 L AH0,
    linus L AY1 N AH0 S, magda M AE1 G D AH0, marcel M AA0 R S EH1 L, mehmet M EH1 M EH0 T,
    milos M IY1 L OW0 SH, nadia N AA1 D Y AH0, nils N IH1 L Z, noor N UH1 R, olga OW1 L G AH0,
    oscar AO1 S K ER0, pavel P AA1 V AH0 L, petra P EH1 T R AH0, priya P R IY1 AH0,
    quentin K W EH1 N T IH0 N, rafael R AA0 F AY0 EH1 L, ravi R AA1 V IY0, rosa R OW1 Z AH0,
    samir S AH0 M IH1 R, selma S EH1 L M AH0, sven S V EH1 N, tamara T AH0 M AA1 R AH0,
    theo TH IY1 OW0, tobias T AH0 B AY1 AH0 S, ulrich UH1 L R IH0 K, vera V EH1 R AH0,
    viktor V IH1 K T ER0, wanda W AA1 N D AH0, yusuf Y UW1 S UH0 F, zelda Z EH1 L D AH0,
    """
)
"""People's names, in alphabetical order."""

PLACES = pronunciation_table(
    """
    bakery B EY1 K ER0 IY0, bodega B OW0 D EY1 G AH0, chapel CH AE1 P AH0 L,
    clinic K L IH1 N IH0 K, depot D IY1 P OW0, ferry F EH1 R IY0, gallery G AE1 L ER0 IY0,
    harbour HH AA1 R B ER0, library L AY1 B R EH2 R IY0, market M AA1 R K AH0 T,
    museum M Y UW0 Z IY1 AH0 M, pharmacy F AA1 R M AH0 S IY0, ranch R AE1 N CH,
    stadium S T EY1 D IY0 AH0 M, tavern T AE1 V ER0 N, temple T EH1 M P AH0 L,
    theater TH IY1 AH0 T ER0, velodrome V EH1 L AH0 D R OW2 M,
    """
)
"""Favorite places, in alphabetical order."""

NAMES: Mapping[str, str] = MappingProxyType({**PEOPLE, **PLACES})


def pretraining_names(names: Mapping[str, str]) -> tuple[str, ...]:
    """The names that public speakers say: the first, the third, ..."""
    return tuple(names)[::2]


def by_kind(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Splits names into people and places, the two slots of sentences."""
    return {
        "people": tuple(name for name in names if name not in PLACES),
        "places": tuple(name for name in names if name in PLACES),
    }
