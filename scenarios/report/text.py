"""Text from outside made safe to look at: keys, values and error texts may hold anything."""

from __future__ import annotations

import unicodedata

#: categories that are not shown as they are: controls, formats (among them bidirectional overrides), surrogates,
#: private use, line and paragraph separators
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: object, most: int = 400) -> str:
    """Return text in which every invisible or direction-changing character is spelled out, cut to `most`.

    HTML is not escaped here: the template engine does that.
    """
    raw = str(text)
    shown = "".join(_spelled(char) if unicodedata.category(char) in _HIDDEN else char for char in raw[:most])
    return shown + (f"… ({len(raw) - most} more)" if len(raw) > most else "")


def _spelled(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
