"""Text of a model made comparable: where it ends, and what of it is spelling.

Knows no vocabulary. The official protocol only cuts at the end-of-text mark; ``folded`` is the corrected scorer's, which forgives
case, accents, punctuation around and spaces between, and nothing more.
"""

from __future__ import annotations

import re
import unicodedata

END_OF_TEXT = "<|end_of_text|>"

_ENDS = re.compile(r"<\|(?:end_of_text|eot_id|im_end|endoftext)\|>|</s>")
_QUOTES, _DASHES = "\u2018\u2019\u0060\u00b4", "\u2010\u2011\u2013\u2014"
_JOINERS = str.maketrans({"_": " "} | dict.fromkeys(_QUOTES, "'") | dict.fromkeys(_DASHES, "-"))
_EDGES = " \t\r\n.,;:!?*\"'`«»()[]{}<>\u201c\u201d\u201e"


def until_end_of_text(text: str) -> str:
    """Cut at the first ``<|end_of_text|>``: all that the official protocol normalises."""
    return text.partition(END_OF_TEXT)[0]


def answered(text: str) -> str:
    """Cut at the first end mark of any chat template that we know, and strip."""
    return _ENDS.split(text, maxsplit=1)[0].strip()


def folded(text: str) -> str:
    """Fold what is spelling only: case, accents, typographic marks, spaces, and punctuation at both ends."""
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", text.translate(_JOINERS))
        if not unicodedata.combining(character)
    )
    return " ".join(plain.casefold().strip(_EDGES).split())
