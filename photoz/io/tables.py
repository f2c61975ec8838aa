"""The table of estimates as the bytes of a file: the same from the service and from the command line."""

import csv
import io
from collections.abc import Iterator

from photoz.estimates import Estimates
from photoz.protocol.contract import PredictResponse


def csv_bytes(estimates: Estimates) -> bytes:
    """Write a header and one line a galaxy.

    Parameters
    ----------
    estimates : Estimates
        n rows.

    Returns
    -------
    bytes
        UTF-8; an unknown value is an empty field, a PDF one column a bin.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names, columns = zip(*_flat_columns(estimates), strict=True)
    writer.writerow(names)
    writer.writerows(["" if value != value else value for value in row] for row in zip(*columns, strict=True))
    return text.getvalue().encode()


def _flat_columns(estimates: Estimates) -> Iterator[tuple[str, list[object]]]:
    for name, values in estimates.columns():
        if values.ndim == 1:
            yield name, values.tolist()
        else:
            yield from ((f"{name}_{i}", values[:, i].tolist()) for i in range(values.shape[1]))


def json_bytes(estimates: Estimates, model: str) -> bytes:
    """Write the JSON of a `PredictResponse`.

    Parameters
    ----------
    estimates : Estimates
        n rows.
    model : str
        Name and version of the model.

    Returns
    -------
    bytes
        UTF-8; an unknown value is null.
    """
    # model_construct: the values are ours, and to check 4096 PDFs number by number takes seconds.
    columns = {name: values.tolist() for name, values in estimates.columns()}
    return PredictResponse.model_construct(model=model, **columns).model_dump_json(exclude_none=True).encode()
