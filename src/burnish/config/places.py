"""Where a recipe says what: places of the unrolled recipe in its file, and the overrides that gave
something. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from burnish.config.load import Override, Sources
from burnish.config.yaml_file import YamlFile

Place = tuple[str, ...]


class Where(NamedTuple):
    """What an error names: the file and the line in it, or the override."""

    file: str | None
    row: int | None


@dataclass
class Places:
    """The file and the overrides of a recipe, asked by the places of the unrolled one.

    Args:
        yaml: the file.
        early: overrides of what the file has, at the file's places.
        late: overrides of one round, at the unrolled recipe's places.
        origins: where the file has each stage of the unrolled recipe.
    """

    yaml: YamlFile
    early: Sequence[Override]
    late: Sequence[Override] = ()
    origins: Mapping[str, Place] = field(default_factory=dict[str, Place])

    @property
    def file(self) -> Places:
        """Itself: it says what a file says."""
        return self

    @property
    def shown(self) -> str | None:
        """The file's name, for an error."""
        return self.yaml.shown

    def line(self, place: Sequence[str]) -> int | None:
        """The line of the key at a place (or of the nearest section around it), from 1."""
        return self.yaml.line(self.there(place))

    def says(self, place: Sequence[str]) -> bool:
        """Whether the key at a place stands in the file."""
        return self.yaml.says(self.there(place))

    def scalar(self, place: Sequence[str]) -> str | None:
        """The text, number or switch at a place as it is written."""
        return self.yaml.scalar(self.there(place))

    def blame(self, place: Place, *, section: bool) -> Override | None:
        """The override that a mistake at `place` is due to (`Sources.blame`); those of one round go
        before."""
        late = Sources(self, self.late).blame(place, section=section)
        return late or Sources(self.yaml, self.early).blame(self.there(place), section=section)

    def written(self, place: Place) -> str | None:
        """A value as it was written, where it is text, a number or a switch."""
        exact = [one.written for one in self.late if one.key == place]
        return exact[-1] if exact else Sources(self.yaml, self.early).written(self.there(place))

    def where(self, place: Place) -> Where:
        """What an error at a place names."""
        override = self.blame(place, section=False)
        if override is not None:
            return Where(f"override {override.shown}", None)
        return Where(self.shown, self.line(place))

    def there(self, place: Sequence[str]) -> Place:
        """Where the file says what the recipe has at `place`."""
        if len(place) > 1 and place[0] == "stages" and place[1] in self.origins:
            return (*self.origins[place[1]], *place[2:])
        return tuple(place)
