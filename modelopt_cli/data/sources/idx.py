"""MNIST and its kin, from their own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Idx"]


@final
class Idx(DataSource):
    """MNIST's own IDX files (also Fashion-MNIST, EMNIST): a folder with train and, for the test split, t10k files."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    decides_samples: ClassVar[frozenset[str]] = DataSource.decides_samples | {"path"}
    only_task: ClassVar[Task | None] = "classification"

    path: str = Field(description="Folder of the files, plain or .gz, e.g. ${MNIST}.")

    def load(self, seed: int) -> RawData:
        """Inputs (N, 1, H, W) uint8: the train files, then the t10k files, which are the data's own test samples."""
        import numpy as np

        from modelopt_cli.data.arrays import as_inputs
        from modelopt_cli.data.files import existing, hash_arrays, hash_file
        from modelopt_cli.data.idx_files import idx_files, read_folder
        from modelopt_cli.data.raw import RawData
        from modelopt_cli.data.targets import interpret

        folder = existing(self.path, "folder")
        data = read_folder(folder)
        targets = interpret(data.labels, "classification", ("labels",))
        samples = len(targets.values)
        return RawData(
            inputs=as_inputs(data.images, layout="channels_first"),
            targets=targets.values,
            task="classification",
            label_names=targets.label_names,
            test_indices=np.arange(samples - data.test, samples) if data.test else None,
            fingerprint=hash_arrays(*(hash_file(path) for _, path in sorted(idx_files(folder).items()))),
            target_names=("labels",),
        )
