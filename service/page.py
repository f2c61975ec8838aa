"""The page for people: files that a browser needs no key for, since they say nothing about the model."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from photoz.estimates import COLUMNS
from photoz.flags import FLAG_MEANINGS
from photoz.images import EBV_MAX
from photoz.io.formats import FORMATS
from photoz.io.npz import MAX_MEMBERS
from photoz.validation import PDFS_PER_CUTOUT
from service.settings import Settings
from service.shared import MAX_BYTES

FOLDER = Path(__file__).with_name("ui")
SAMPLE = Path(__file__).parents[1] / "examples" / "cutouts.npz"

HOME, PATH, OPTIONS = "/", "/ui", "/ui/options.json"

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

FILES = {
    PATH: FOLDER / "index.html",
    **({f"{PATH}/sample.npz": SAMPLE} if SAMPLE.is_file() else {}),
    **{f"{PATH}/{path.name}": path for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES},
}

WITHOUT_KEY = frozenset({HOME, OPTIONS, *FILES})

# Only what the service itself sends is run, shown or asked, and a SAMP hub of the user's computer.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self' http://127.0.0.1:21012; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def file(request: Request) -> Response:
    """Return a file of the page."""
    path = FILES[request.url.path]
    return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"), headers=HEADERS)


async def home(request: Request) -> Response:
    """Lead to the page, also behind a proxy that has put something before the path."""
    return RedirectResponse(PATH.lstrip("/"))


def options(settings: Settings) -> Response:
    """Return what the page needs to know: flags, columns and formats, limits, and whether positions can be looked up.

    Each number in a table takes 4 to 8 bytes in its body, again when it is unpacked, and 24 in the answer.
    """
    flags = [[flag, flag.name, meaning] for flag, meaning in FLAG_MEANINGS.items()]
    columns = [*(name for name in COLUMNS if name != "object_id"), "pdf"]
    formats = {item.name.lower(): [item.media_type, item.suffixes[0]] for item in FORMATS if item.written}
    numbers = min(settings.max_body_bytes // 8, settings.max_memory_bytes // 48)
    table = {
        "rows": PDFS_PER_CUTOUT * settings.max_rows,
        "columns": MAX_MEMBERS,
        "numbers": numbers,
        "shared": MAX_BYTES // 12,
    }
    answer = {"flags": flags, "columns": columns, "formats": formats, "table": table, "ebv_max": EBV_MAX}
    return JSONResponse(answer | {"sky": settings.sky is not None}, headers=HEADERS)
