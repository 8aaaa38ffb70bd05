"""The scripts of Vega, Vega-Lite and Vega-Embed as one text, which stands in every report.html.

vl-convert has them inside it and takes a second to put them together, so the text is kept in the user's cache folder,
by vl-convert's version.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from modelopt_cli.core.errors import StorageError
from modelopt_cli.results.files import write_text

_LEAST = 500_000  # bytes; a shorter file is none of ours


@cache
def script() -> str:
    """JavaScript that defines vegaEmbed, vega and vegaLite, and nothing else, in the window."""
    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        text = kept.read_text(encoding="utf-8")
        if len(text) >= _LEAST and text.endswith(_END):
            return text
    import vl_convert

    text = _BEGIN + vl_convert.javascript_bundle(_SNIPPET).strip() + _END
    with suppress(OSError, StorageError):  # without it the text is made again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, text)
    return text


_SNIPPET = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
_BEGIN, _END = "(() => {\n", "\n})();\n"


def cache_folder() -> Path:
    """Where the user's programs keep what they can make again: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "modelopt")
