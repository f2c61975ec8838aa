"""Estimates as the bytes of a CSV or JSON file, the same from the service and from the command line."""

import csv
import io
from collections.abc import Iterator

from photoz.estimates import Estimates
from photoz.protocol.contract import PredictResponse


def csv_bytes(estimates: Estimates) -> bytes:
    """Write a header and one line per galaxy; NaN is an empty field, a PDF one column per bin."""
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
    """Write the JSON of a `PredictResponse`, with the name and version of the model; NaN is null."""
    # model_construct: validating 4096 PDFs, number by number, would take seconds.
    columns = {name: values.tolist() for name, values in estimates.columns()}
    return PredictResponse.model_construct(model=model, **columns).model_dump_json(exclude_none=True).encode()
