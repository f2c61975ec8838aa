"""The OpenAPI document of the service as Markdown, for the site."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

Schema = Mapping[str, Any]


def endpoints(document: Mapping[str, Any]) -> str:
    """List the endpoints of a document by tag."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    everywhere = set.intersection(*(set(operation["responses"]) for _, operation in operations)) - {"200"}
    lines = [f"Every endpoint may respond with {_statuses(everywhere)}, and an `error` in JSON.", ""]
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in operations):
        lines += [f"## {tag}", ""]
        for name, operation in operations:
            if operation["tags"][0] == tag:
                lines += [f"### {name}", "", *_operation(operation, everywhere)]
    return "\n".join(lines)


def messages(document: Mapping[str, Any]) -> str:
    """List the fields of the messages of a document."""
    lines = []
    for name, schema in document["components"]["schemas"].items():
        lines += [f"## {name}", "", schema.get("description", ""), "", *_fields(schema), ""]
    return "\n".join(lines)


def _operation(operation: Mapping[str, Any], everywhere: set[str]) -> Iterator[str]:
    yield from (operation.get("summary") or operation["description"], "")
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | type | |", "| --- | --- | --- | --- |")
        for parameter in parameters:
            name, description = f"`{parameter['name']}`", parameter.get("description", "")
            cells = (name, parameter["in"], _type(parameter["schema"]), description)
            yield f"| {' | '.join(cells)} |"
        yield ""
    if body := operation.get("requestBody"):
        yield f"- Request: {_content(body)}"
    yield f"- Response: {_content(operation['responses']['200'])}"
    if others := set(operation["responses"]) - everywhere - {"200"}:
        yield f"- Errors: {_statuses(others)}"
    yield ""


def _fields(schema: Schema) -> Iterator[str]:
    yield from ("| field | type | |", "| --- | --- | --- |")
    for name, field in schema["properties"].items():
        default = f"default {field['default']}" if field.get("default") is not None else ""
        note = "required" if name in schema.get("required", ()) else default
        yield f"| `{name}` | {_type(field)} | {'; '.join(filter(None, (note, field.get('description', ''))))} |"


def _statuses(statuses: set[str]) -> str:
    return ", ".join(f"{status} ({HTTPStatus(int(status)).phrase.lower()})" for status in sorted(statuses))


def _content(message: Mapping[str, Any]) -> str:
    types = [(name, media_type.get("schema", {})) for name, media_type in message.get("content", {}).items()]
    named = (f"`{name}` ({_type(schema)})" if "$ref" in schema else f"`{name}`" for name, schema in types)
    return ", ".join(named) or "only the status"


def _type(schema: Schema) -> str:
    """Return the type that a schema describes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](messages.md#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    return str(schema.get("type", "any"))
