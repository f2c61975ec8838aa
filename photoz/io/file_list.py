"""The files that a folder or a pattern such as ``"cutouts/*.fits"`` stands for."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from photoz.errors import InvalidDataset, counted
from photoz.io import formats
from photoz.io.fits_header import KINDS, WORDS
from photoz.io.formats import READ_SUFFIXES, read_format


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist may stand for others."""
    return not path.exists() and any(letter in str(path) for letter in "*?[")


def list_files(path: Path) -> tuple[list[Path], list[str]] | None:
    """Return the files of cutouts in a folder or a pattern, and what is left out, in words; None for a single file.

    Weights, masks and other such images are left out if their name, without the word for it, is that of another file,
    or they are as many as the other files. Raises `InvalidDataset` for a folder without files, and two files of one
    name.
    """
    others: list[Path] = []
    if path.is_dir() and read_format(path) is not formats.ZARR:
        folders = (path, *path.glob("healpix=*"))
        listed = sorted(file for folder in folders for file in folder.iterdir() if file.name[0] != ".")
        files = [file for file in listed if read_format(file)]
        others = [file for file in listed if file not in folders and _may_hold_cutouts(file) and not read_format(file)]
        if not files:
            found = f"; it holds {', '.join(file.name for file in listed[:8])}" if listed else ""
            raise InvalidDataset(
                f"expected files of the formats {', '.join(READ_SUFFIXES)} in the folder {path}{found}"
            )
    elif is_pattern(path):
        files = sorted(Path(file) for file in glob(str(path)))
        if not files:
            raise FileNotFoundError(f"no file fits the pattern {path}")
    else:
        return None
    images, kinds = _without_kinds(files)
    left_out = [f"{file.name}, of another format" for file in others]
    if kinds:
        left_out.append(f"{counted(len(kinds), 'file')} beside images, such as {kinds[0].name}: no image of the sky")
    return images, left_out


def first_file(path: Path) -> tuple[Path, int]:
    """Return the first of the files that a path stands for, and their number; raises as `list_files`."""
    found = list_files(path)
    files = [path] if found is None else found[0]
    return files[0], len(files)


def _may_hold_cutouts(path: Path) -> bool:
    return path.is_dir() or bool(set(path.suffixes) & set(READ_SUFFIXES))


def _without_kinds(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide files into those of images, and those of weights, masks and other kinds."""
    names: dict[tuple[Path, str], Path] = {}
    kinds = list[tuple[tuple[Path, str], Path]]()
    for file in files:
        words = [word for word in WORDS.split(stem(file)) if word.upper() not in ("IMAGE", "SCI", "DATA")]
        of_sky = [word for word in words if word.upper() not in KINDS]
        key = (file.parent, " ".join(of_sky))
        if len(of_sky) < len(words):
            kinds.append((key, file))
        elif key in names and stem(names[key]) == stem(file):
            raise InvalidDataset(
                f"expected one file of each name, got {names[key]} and {file.name}: remove one of them"
            )
        else:
            names[key] = file
    found = {file for key, file in kinds if key in names or len(kinds) == len(names)}
    return [file for file in files if file not in found], sorted(found)


def stem(path: Path) -> str:
    """Return the name of a file without suffixes; a dot may belong to a band, as in r.MP9601."""
    name = path.name
    while (suffix := Path(name).suffix) and suffix.lower() in (*READ_SUFFIXES, *formats.COMPRESSED):
        name = name.removesuffix(suffix)
    return name
