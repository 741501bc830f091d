"""What every id is: of a SKU, an agent, a location, a channel, an order."""

import unicodedata

ID_CHARACTERS_MAX = 128


def normalized_id(text: str) -> str:
    """The id in NFC; raises ValueError unless it has 1-128 characters, no control character, no outer space."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not 1 <= len(text) <= ID_CHARACTERS_MAX:
        raise ValueError(f"must have 1 to {ID_CHARACTERS_MAX} characters")
    if text != text.strip():
        raise ValueError("must not begin or end with space")
    if not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not contain control characters")
    return text
