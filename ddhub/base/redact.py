"""What people are shown: never a token, nor a character that moves the cursor or that UTF-8 cannot hold."""

import os
import re
import sys
import unicodedata

# Tokens of the Hub by their form, and whatever follows the word that announces one in a header.
TOKEN = re.compile(r"\bhf_[a-z0-9]{16,}|(?<=\bBearer )[^\s'\",]+", re.ASCII | re.IGNORECASE)
# Addresses that are keys themselves: signed ones of a storage server, and those with a name and password in them.
SIGNED = re.compile(
    r"(https?://[^\s?'\"<>]+\?)[^\s'\"<>]*(?:signature|credential|token|policy|sig=|key)[^\s'\"<>]*", re.IGNORECASE
)
LOGIN = re.compile(r"(https?://)[^\s/@'\"<>]+@", re.IGNORECASE)
CONTROL = ("Cc", "Cs")  # control characters, and halves of characters that no encoding has


def shown(text: str) -> str:
    """A text as it is printed: tokens and signatures are `***`, and odd characters are spelled out."""
    for token in _tokens():
        text = text.replace(token, "***")
    text = LOGIN.sub(r"\1***@", SIGNED.sub(r"\1***", TOKEN.sub("***", text)))
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(fault: BaseException, most: int = 300) -> str:
    """An exception's words on one line, at most so many characters; without tokens before anything is cut off."""
    return " ".join(shown(str(fault)).split())[:most] or type(fault).__name__


def is_text(name: str) -> bool:
    """Whether a stranger's name is text of one line, which every file and terminal can hold."""
    return not any(unicodedata.category(letter) in CONTROL for letter in name)


def _tokens() -> list[str]:
    """The tokens that this process may know: of the environment, and the one that the Hub's client has stored."""
    found = [os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")]
    client = sys.modules.get("huggingface_hub")
    if client is not None:
        found.append(client.get_token())
    # Shorter ones are no tokens, and would make holes in every text.
    return [token.strip() for token in found if token and len(token.strip()) >= 8]
