"""What TensorBoard's event files hold of a run whose process was killed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.logger_readers import read

BEGINS_AND_DIES = """
import os, sys
from pathlib import Path
from modelopt_cli.results.loggers import Begun, Location
from modelopt_cli.results.loggers.tensorboard import Tensorboard
folder = Path(sys.argv[1]) / "n" / "1"
session = Tensorboard().open(Location("n", "n/1", folder, folder.parents[1]))
assert session.begin(Begun("trial-0", {"lr": 0.1}, {"tag": "x"}), None) == "trial-0"
os._exit(9)
"""


@pytest.mark.slow
def test_who_has_begun_is_on_disk_before_anybody_relies_on_it(tmp_path: Path) -> None:
    """The journal notes a beginning that was kept, so that it is not repeated after a kill: then it must be there."""
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed (extra tensorboard)")
    died = subprocess.run([sys.executable, "-c", BEGINS_AND_DIES, str(tmp_path)], check=False)
    assert died.returncode == 9
    assert read("tensorboard", tmp_path)["trial-0"]["settings"] == {"lr": 0.1}
