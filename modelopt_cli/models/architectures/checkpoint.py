"""A model that modelopt saved, to go on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import Field

from modelopt_cli.core.consent import Consent
from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.files.checkpoints import Checkpoint as Saved


@final
class Checkpoint(Architecture):
    """A trained model.pt of modelopt: its architecture with its weights as the start."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    is_trained: ClassVar[bool | None] = True

    path: str = Field(description="The model.pt; relative to the experiment file.")
    trust_code: bool = Field(False, exclude=True, description="Run the code that the model.pt names, if it names any.")

    @property
    def consent(self) -> Consent:
        """To what the file names."""
        return Consent(everything=self.trust_code)

    def saved(self) -> Saved:
        """What the file holds. Raises InputError or RefusedError."""
        from modelopt_cli.models.files import checkpoints

        return checkpoints.load(self.path, self.consent)

    def check(self) -> None:
        """Read the file. Raises InputError or RefusedError."""
        self.saved()

    def build(self, shapes: Shapes, seed: int) -> Any:
        """The saved module. Raises UsageError when it does not fit the data."""
        saved = self.saved()
        if saved.architecture.framework != self.framework:
            raise UsageError(f"{self.path} holds a {saved.architecture.framework} model; it cannot be trained further")
        saved.shapes.check_fit(shapes, self.path)
        return saved.model
