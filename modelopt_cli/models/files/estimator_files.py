"""A fitted estimator as bytes of skops' format, and back without running code that the bytes name.

A skops file names types and functions, which reading makes and calls. Those that scikit-learn's own estimators are made
of are listed one by one (_estimator_types.py); whatever else a file names is code that the user must agree to.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelopt_cli.core.consent import Consent, refusal
from modelopt_cli.core.errors import InputError, RefusedError, UsageError
from modelopt_cli.models.architectures._estimators import load_estimator
from modelopt_cli.models.files.estimator_archives import check_estimator

_SHOWN = 10  # names in a message


def dumped(estimator: Any) -> bytes:
    """The estimator as a skops file. Raises UsageError for one that skops cannot save."""
    import skops.io

    try:
        return bytes(skops.io.dumps(estimator))
    except Exception as error:  # whatever it, or what it holds, makes skops do
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"the estimator {type(estimator).__name__} cannot be saved: {reason} (skops keeps plain values, arrays and "
            "objects of importable classes); use another estimator, or keep such things out of its attributes"
        ) from None


def unlisted(data: bytes) -> list[str]:
    """What a skops file names beside the types and functions of scikit-learn's own estimators, sorted.

    Nothing is imported. Raises whatever skops raises for a damaged file.
    """
    import skops.io

    from modelopt_cli.models.files._boosting_types import BOOSTING
    from modelopt_cli.models.files._estimator_types import LISTED

    return sorted(set(skops.io.get_untrusted_types(data=data)) - LISTED - BOOSTING)


def told_at_saving(estimator: Any) -> list[str]:
    """A warning where the saved estimator will be read only with the user's consent; none where it is read as it is."""
    names = unlisted(dumped(estimator))
    if not names:
        return []
    return [
        f"the saved model is made of code outside scikit-learn's own estimators ({_some(names)}): evaluate, predict "
        "and whatever else reads the model.pt will ask for --trust-code"
    ]


def loaded(data: bytes, path: str | Path, consent: Consent, prepare: Callable[[], object] | None = None) -> Any:
    """The estimator in a skops file. `prepare`: called before code that is agreed to is looked for, to import it.

    Raises RefusedError, before anything is imported, for one that names more than is listed and agreed to; InputError
    for a damaged one.
    """
    import skops.io

    check_estimator(data, f"the estimator in {path}")
    try:
        names = unlisted(data)
    except Exception as error:  # whatever a damaged file makes skops do
        raise _damaged(path, error) from None
    if not consent.whole and (foreign := [name for name in names if not _agreed(name, consent)]):
        raise refusal(path, f"types or functions beside those of scikit-learn's estimators: {_some(foreign)}")
    if names and prepare is not None and consent.whole:
        prepare()
    try:
        from modelopt_cli.models.files._boosting_types import BOOSTING
        from modelopt_cli.models.files._estimator_types import LISTED

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another version of scikit-learn
            return skops.io.loads(data, trusted=[*sorted(LISTED | BOOSTING), *names])
    except RefusedError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None


def _agreed(name: str, consent: Consent) -> bool:
    """Whether it is a class of a package whose estimator the experiment file names. A function is more than that."""
    top = name.partition(".")[0]
    own = [(path, folder) for path, folder in consent.estimators if path.partition(".")[0] == top]
    if not own:
        return False
    for path, folder in own:
        with suppress(UsageError):
            load_estimator(path, folder)
    module, _, attribute = name.rpartition(".")
    return isinstance(getattr(sys.modules.get(module), attribute, None), type)


def _damaged(path: str | Path, error: Exception) -> InputError:
    return InputError(f"{path}: the estimator in it is damaged ({type(error).__name__})")


def _some(names: Iterable[str]) -> str:
    listed = [ascii(name)[1:-1] for name in names]
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
