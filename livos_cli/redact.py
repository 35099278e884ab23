"""What must not be shown or kept of addresses: who signs in, with what, and what follows the `?`.

Signed links carry their key in the query; so all of it goes, whatever it is called.
"""

from __future__ import annotations

import contextlib
import logging
import re
import traceback

__all__ = ["HIDDEN", "redact", "redact_logs"]

HIDDEN = "***"
# Trailing marks belong to the sentence, not to the address.
_END = r"(?=['\"<>)\]}:,;.]*(?:\s|$))"
_RULES = (
    # user:password@ before the first slash, whatever is in it.
    (re.compile(r"(?<=://)[^\s/?#]*@"), f"{HIDDEN}@"),
    # A password with a slash in it: after the colon no port, and no second address (`::`).
    (re.compile(r"(?<=://)[^\s/?#@:]*:(?!:|\d{1,5}(?:[/?#]|$))[^\s@]*@"), f"{HIDDEN}@"),
    (re.compile(r"(://[^\s?#]*)[?#]\S+?" + _END), rf"\1?{HIDDEN}"),
)
_SAYS_URL = re.compile(r"\burl\b", re.IGNORECASE)
# Libraries print addresses without their beginning: `with url: /a.mp4?key=…`.
_BARE_QUERY = re.compile(r"(?<=\S)[?&][\w.~%\-]+=\S*?" + _END)


def redact(text: str) -> str:
    """A text without the secrets of the addresses in it; paths and other text stay as they are.

    Args:
        text: an address, or a message that has some in it.

    Returns:
        The same with `***` for user and password, and for what follows `?` or `#`.
    """
    if "://" not in text and not _SAYS_URL.search(text):
        return text
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return _BARE_QUERY.sub(f"?{HIDDEN}", text)


def redact_logs() -> None:
    """Let every line that libraries log pass through `redact`, from here on, in this process."""
    before = logging.getLogRecordFactory()
    if getattr(before, "redacts", False):
        return

    def make(*args: object, **kwargs: object) -> logging.LogRecord:
        record = before(*args, **kwargs)
        # Where the arguments do not fit, the logging module says so itself.
        with contextlib.suppress(TypeError, ValueError, KeyError):
            record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info))).strip()
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
