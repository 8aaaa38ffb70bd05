"""A model that modelopt saved, to go on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import Field

from modelopt_cli.core.consent import Consent
from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class Checkpoint(Architecture):
    """A trained model.pt of modelopt: its architecture with its weights as the start."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)

    path: str = Field(description="The model.pt; relative to the experiment file.")
    trust_code: bool = Field(False, exclude=True, description="Run the code that the model.pt names, if it names any.")

    @property
    def consent(self) -> Consent:
        """To what the file names."""
        return Consent(everything=self.trust_code)

    def check(self) -> None:
        """Read the file. Raises InputError or RefusedError."""
        from modelopt_cli.models.files import checkpoints

        checkpoints.load(self.path, self.consent)

    def build(self, shapes: Shapes, seed: int) -> Any:
        """The saved module. Raises UsageError when it does not fit the data."""
        from modelopt_cli.models.files import checkpoints

        found = checkpoints.load(self.path, self.consent)
        if found.architecture.framework != self.framework:
            raise UsageError(f"{self.path} holds a {found.architecture.framework} model; it cannot be trained further")
        found.shapes.check_fit(shapes, self.path)
        return found.model
