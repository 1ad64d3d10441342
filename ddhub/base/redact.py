"""Cleaning of text for people: no tokens, no control characters, nothing that UTF-8 cannot hold."""

import os
import re
import sys
import unicodedata

# Tokens of the Hub by their form, and the word after the one that announces a token in a header.
TOKEN = re.compile(r"\bhf_[a-z0-9]{16,}|(?<=\bBearer )[^\s'\",]+", re.ASCII | re.IGNORECASE)
# Addresses that contain secrets: signed addresses of a storage server, and those with name and password.
SIGNED = re.compile(
    r"(https?://[^\s?'\"<>]+\?)[^\s'\"<>]*(?:signature|credential|token|policy|sig=|key)[^\s'\"<>]*", re.IGNORECASE
)
LOGIN = re.compile(r"(https?://)[^\s/@'\"<>]+@", re.IGNORECASE)
LONG = re.compile(r"(\S{100})\S{1900,}")  # longer than a name or a path that anybody reads
CONTROL = ("Cc", "Cs")  # control characters, and lone surrogates


def shown(text: str) -> str:
    """A text as it is printed. Tokens and signatures become `***`, odd characters are escaped, endless words cut."""
    for token in _tokens():
        text = text.replace(token, "***")
    text = LOGIN.sub(r"\1***@", SIGNED.sub(r"\1***", TOKEN.sub("***", text)))
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return LONG.sub(r"\1...", text)


def one_line(fault: BaseException, most: int = 300) -> str:
    """An exception's message on one line, cut to `most` characters. Tokens are removed before the cut."""
    return " ".join(shown(str(fault)).split())[:most] or type(fault).__name__


def is_text(name: str) -> bool:
    """Whether a stranger's name is one line of text that every file and terminal can hold."""
    return not any(unicodedata.category(letter) in CONTROL for letter in name)


def _tokens() -> list[str]:
    """The tokens of the environment and of the Hub's client."""
    found = [os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")]
    client = sys.modules.get("huggingface_hub")
    if client is not None:
        found.append(client.get_token())
    # Shorter strings are no tokens and occur in ordinary text.
    return [token.strip() for token in found if token and len(token.strip()) >= 8]
