"""Errors in the log of the service, as text or as JSON, in which a traceback is part of the line."""

import re
from collections import Counter

_ERROR = re.compile(
    r'\[(?:ERROR|CRITICAL)\].*(?:\nTraceback.*)?|"level": ?"(?:error|critical)".*|^Traceback .*', re.MULTILINE
)
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception|Disconnect|Exit)\b.{0,80}", re.MULTILINE)


def errors_in(log: str) -> int:
    """Count errors, and tracebacks outside them."""
    return len(_ERROR.findall(log))


def raised_in(log: str) -> dict[str, int]:
    """Count the last lines of tracebacks, the commonest first."""
    return dict(Counter(_RAISED.findall(log.replace("\\n", "\n"))).most_common(30))
