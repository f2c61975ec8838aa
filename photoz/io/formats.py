"""The file formats: names, suffixes and media types, and what reads and writes them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from photoz.errors import UnsupportedType


@dataclass(frozen=True)
class Format:
    """A file format."""

    name: str
    suffixes: tuple[str, ...]  # of its files
    media_type: str = ""  # in HTTP; "" if the service neither reads nor writes it
    read: bool = False  # whether `photoz.io.reader` reads cutouts from it
    received: bool = False  # whether the service reads cutouts from it
    written: bool = False  # whether `photoz.io.writer` and the service write estimates in it
    in_parts: bool = False  # whether a file can be written part by part
    package: str = ""  # that reads and writes it
    extra: str = ""  # of this project, which installs the package

    def load(self, module: str) -> ModuleType:
        """Import a module of the format's package; raises `UnsupportedType` if the package is not installed."""
        try:
            import_module(self.package)
            return import_module(module)
        except ImportError as error:
            raise UnsupportedType(
                f"{self.name} files need {self.package}: install it with pip install 'photoz[{self.extra}]'"
            ) from error


CSV = Format("CSV", (".csv",), "text/csv", written=True, in_parts=True)
JSON = Format("JSON", (".json",), "application/json", written=True)
NPY = Format("npy", (".npy",), "application/x-npy", read=True, received=True)
NPZ = Format("npz", (".npz",), "application/x-npz", read=True, received=True, written=True)
JSON_LINES = Format("JSON lines", (".jsonl",), "application/jsonl", written=True, in_parts=True)
FITS = Format(
    "FITS",
    (".fits", ".fit"),
    "application/fits",
    read=True,
    received=True,
    written=True,
    package="astropy",
    extra="astropy",
)
VOTABLE = Format("VOTable", (".vot",), "application/x-votable+xml", written=True, package="astropy", extra="astropy")
HDF5 = Format("HDF5", (".h5", ".hdf5"), "application/x-hdf5", read=True, received=True, written=True)
ZARR = Format("Zarr", (".zarr",), read=True, package="zarr", extra="zarr")
PARQUET = Format(
    "Parquet",
    (".parquet",),
    "application/vnd.apache.parquet",
    read=True,
    written=True,
    in_parts=True,
    package="pyarrow",
    extra="parquet",
)
QP = Format("qp", (".qp.hdf5",), "application/x-qp+hdf5", written=True)

FORMATS = (CSV, JSON, NPY, NPZ, JSON_LINES, FITS, VOTABLE, HDF5, ZARR, PARQUET, QP)

# Formats that the service answers evaluations with.
HTML = Format("HTML", (".html",), "text/html")
PNG = Format("PNG", (".png",), "image/png")
SVG = Format("SVG", (".svg",), "image/svg+xml")

READ_SUFFIXES = tuple(suffix for format in FORMATS if format.read for suffix in format.suffixes)
WRITTEN_SUFFIXES = tuple(suffix for format in FORMATS if format.written for suffix in format.suffixes)

# Suffixes of compression, after that of the format.
COMPRESSED = (".gz", ".bz2", ".fz")


def read_format(path: Path) -> Format | None:
    """Return the format of a file of cutouts by its suffix, which one of `COMPRESSED` may follow; None for others."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return next((format for format in FORMATS if format.read and name.suffix.lower() in format.suffixes), None)


def written_format(path: Path) -> Format:
    """Return the format of a file of estimates by its suffix; raises `UnsupportedType` for others."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    suffix = "".join(suffixes) if suffixes[:1] == [".qp"] else path.suffix.lower()
    for format in FORMATS:
        if format.written and suffix in format.suffixes:
            return format
    raise UnsupportedType(f"{path} should end in {', '.join(WRITTEN_SUFFIXES)}")
