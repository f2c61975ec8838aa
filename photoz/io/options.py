"""What a user says about files of images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """What files of images do not say, or how they are read."""

    bands: tuple[str, ...] = ()  # of the images in their order
    zero_point: float | None = None  # AB magnitude of a pixel with the value 1
    override: bool = False  # whether these replace what files say; otherwise a contradiction is refused
    ebv: float | None = None  # E(B-V) in mag of all cutouts, instead of the column of the files


NO_OPTIONS = ReadOptions()
