"""Seeds: every random stream derives from the experiment's seed and a name, never from another stream."""

from __future__ import annotations

import hashlib


def derive(seed: int, *keys: int | str) -> int:
    """A seed in [0, 2**31) that depends on `seed` and `keys` alone (SHA-256), equal on every machine.

    31 bits, because scikit-learn's `random_state` takes no more than 32.
    """
    text = "/".join([str(seed), *(str(key) for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
