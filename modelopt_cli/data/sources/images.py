"""Image files, a folder a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count, Items
from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Images"]


@final
class Images(DataSource):
    """Image files, a folder a class; with train/ and test/ folders, test/ is the test split."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    changes_inputs: ClassVar[frozenset[str]] = DataSource.changes_inputs | {"size", "mode"}
    decides_samples: ClassVar[frozenset[str]] = DataSource.decides_samples | {"path", "max_pixels"}
    only_task: ClassVar[Task | None] = "classification"

    path: str = Field(description="Folder that holds the class folders, or train/ and test/ with class folders.")
    size: Annotated[Items[Count], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[height, width] to resize to; null: all images must be of one size."
    )
    mode: Literal["auto", "color", "gray"] = Field("auto", description="auto: gray (1 channel) if all files are gray.")
    max_pixels: int = Field(89_478_485, ge=1, description="A file with more pixels is refused.")

    def load(self, seed: int) -> RawData:
        """Inputs (N, C, H, W) uint8, by class and file name; test files follow the others."""
        import numpy as np

        from modelopt_cli.data.files import existing, hash_arrays
        from modelopt_cli.data.image_files import decode, list_classes
        from modelopt_cli.data.raw import RawData

        listed = list_classes(existing(self.path, "folder"))
        size = None if self.size is None else (self.size[0], self.size[1])
        notes: list[str] = []
        images, digest = decode(listed.files, size, self.mode, self.max_pixels, note=notes.append)
        samples = len(images)
        return RawData(
            inputs=images,
            targets=listed.targets,
            task="classification",
            label_names=listed.classes,
            test_indices=np.arange(samples - listed.test, samples) if listed.test else None,
            fingerprint=hash_arrays(digest, "/".join(listed.classes), listed.targets, str((size, self.mode))),
            target_names=("folder",),
            reading={"size": size, "max_pixels": self.max_pixels, "over_white": True},
            notes=tuple(notes),
        )
