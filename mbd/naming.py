"""What may name a person or a clip. It knows nobody."""

import unicodedata

LONGEST = 200
"""Characters of a person's name in a request; a cohort may have longer ones."""


def is_plain_name(name: str) -> bool:
    """Whether a clip or a subject can be called so: one text for each name that can be seen."""
    printable = bool(name) and name.isprintable() and name == name.strip()
    return printable and unicodedata.is_normalized("NFC", name)
