"""What a user says about files of images."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from photoz.errors import InvalidDataset


@dataclass(frozen=True)
class ReadOptions:
    """What files of images do not say, or how they are read."""

    bands: tuple[str, ...] = ()  # of the images in their order
    zero_point: float | None = None  # AB magnitude of a pixel with the value 1
    override: bool = False  # whether these replace what files say; otherwise a contradiction is refused
    ebv: float | None = None  # E(B-V) in mag of all cutouts, instead of the column of the files
    resample: bool = False  # whether pixels of another scale are resampled to that of the model
    at: Path | None = None  # catalogue of positions, at which cutouts are cut out of large images
    hdu: tuple[str, ...] = ()  # names or numbers of the HDUs of FITS files that hold the images
    column: tuple[str, ...] = ()  # names of the columns, arrays or datasets that hold them

    @property
    def folder(self) -> str:
        """The path of the group in which the column is, such as "group/", "" for the file itself."""
        folder, slash, _ = "".join(self.column[:1]).rpartition("/")
        return folder + slash

    def beside(
        self, shapes: Mapping[str, tuple[int, ...]], images: tuple[int, ...], groups: Collection[str] = ()
    ) -> tuple[list[str], list[str]]:
        """Return which arrays beside images are columns, by their shapes, and what else there is, in words."""
        kept = [
            name for name, shape in shapes.items()
            if len(shape) < 3 and (not self.column or shape[:1] in ((), images[:1]))
        ]  # fmt: skip
        left_out = [f"{name}, of the shape {shape}" for name, shape in shapes.items() if name not in kept]
        left_out += [f"the group {name}" for name in groups]
        if self.column and self.folder:
            left_out.append(f"what is not in the group {self.folder}")
        return kept, left_out

    def image_column(self, names: Collection[str], path: Path, defaults: Collection[str] = ("images",)) -> str:
        """Return which of the columns of a file holds the images; raises `InvalidDataset` if it is not there."""
        if len(self.column) > 1:
            raise InvalidDataset(f"expected one --column of {path}, got {','.join(self.column)}")
        wanted = self.column or defaults
        for name in wanted:
            if name in names:
                return name
        raise InvalidDataset(
            f"{path} holds no {' or '.join(map(repr, wanted))}: name the images by --column; it holds "
            f"{', '.join(names) or 'nothing'}"
        )


NO_OPTIONS = ReadOptions()
