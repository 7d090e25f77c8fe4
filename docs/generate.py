"""Writes the pages of ``docs/reference/`` from the code: settings, REST, command line."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click
import typer

from fedlmd.cli import app as commands
from fedlmd.cli.options import CORES
from fedlmd.service.app import create_app
from fedlmd.settings import Settings

FOLDER = Path(__file__).parent / "reference"
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", dict: "table"}


def main(folder: Path) -> None:
    """Write all pages into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"settings": settings_page(), "rest": rest_page(), "commands": commands_page()}.items():
        (folder / f"{name}.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    texts = (re.sub(r"\n\s*- ", "<br>", str(cell)) for cell in cells)  # a list's items
    return "| " + " | ".join(re.sub(r"\s+", " ", text).replace("|", "\\|").strip() for text in texts) + " |"


def table(*heads: str) -> list[str]:
    """The first two lines of a Markdown table, after an empty one."""
    return ["", row(*heads), row(*["---"] * len(heads))]


def plain(docstring: str) -> str:
    """A docstring's text as Markdown."""
    return docstring.replace("``", "`")


# Settings


def settings_page() -> str:
    """Every key of a run's TOML file."""
    lines = [
        "# Settings",
        "",
        "A run is one TOML file. A key that is left out keeps its default. An unknown key, a wrong type and a value",
        "out of range are errors. Each heading is a table of the file. This page is generated from the dataclass",
        "`fedlmd.settings.Settings` and those in it.",
    ]
    for path, config in sections("", Settings()):
        heading = f"`[{path}]`" if path else "The top of the file"
        lines += ["", f"## {heading}", "", plain(summary(config)), *table("key", "type", "default", "meaning")]
        described, types = arguments(config), get_type_hints(type(config))
        for field in fields(config):
            value = getattr(config, field.name)
            if not is_dataclass(value):
                kind, default = f"{type_in_words(types[field.name])}", f"`{toml(value)}`"
                lines.append(row(f"`{field.name}`", kind, default, plain(described[field.name])))
        if path == "detector.lmd":
            lines.append(row("`preset`", '`"fast"`, `"paper"`', '`"fast"`', "values for all keys of this table."))
    return "\n".join(lines)


def sections(path: str, config: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any dataclass
    """A configuration and all those in it, each with the name of its TOML table."""
    yield path, config
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from sections(f"{path}.{field.name}".lstrip("."), value)


def summary(config: object) -> str:
    """What a configuration's docstring says before its arguments."""
    return (inspect.getdoc(type(config)) or "").partition("\nArgs:")[0].strip()


def arguments(config: object) -> dict[str, str]:
    """The descriptions of a dataclass's fields, from the section "Args" of its docstring.

    Raises:
        KeyError: naming a field without one.
    """
    section = (inspect.getdoc(type(config)) or "").partition("Args:\n")[2]
    described = dict(re.findall(r"^    (\w+): (.*(?:\n(?: {5,}.*)?(?=\n|$))*)", section, re.MULTILINE))
    missing = [f.name for f in fields(config) if f.name not in described and not is_dataclass(getattr(config, f.name))]  # type: ignore[arg-type]
    if missing:
        raise KeyError(f"the docstring of {type(config).__qualname__} does not describe {missing[0]!r}")
    return described


def type_in_words(kind: Any) -> str:  # noqa: ANN401 - a type expression
    """A type as a table's cell."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{toml(choice)}`" for choice in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(type_in_words(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return f"list of {type_in_words(get_args(kind)[0])}"
    return WORDS[get_origin(kind) or kind]


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else "not set" if value is None else f"{value}"


# REST


def rest_page() -> str:
    """Every request of the service, and every body."""
    schema = create_app(SimpleNamespace(name="NODE")).openapi()
    lines = [
        "# REST",
        "",
        "Every node serves these requests. `/docs` at a node is a page to try them; `/openapi.json` is the document",
        "that this page is generated from. Every error is a JSON object with one field, `error`: one sentence.",
    ]
    topics: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            topics.setdefault(operation.get("tags", ["node"])[0], []).extend(operation_lines(method, path, operation))
    for topic, texts in topics.items():
        lines += ["", f"## {topic.capitalize()}", *texts]
    lines += ["", "## Bodies"]
    for name, body in schema["components"]["schemas"].items():
        lines += body_lines(body_name(name), body) if "properties" in body else []
    return "\n".join(lines)


def operation_lines(method: str, path: str, operation: Mapping[str, Any]) -> list[str]:
    """One request: what it does, what it takes, what it gives."""
    lines = ["", f"### `{method.upper()} {path}`", "", operation.get("description", operation["summary"])]
    if operation.get("parameters"):
        lines += table("parameter", "in", "type", "meaning")
        for entry in operation["parameters"]:
            kind, meaning = schema_type(entry["schema"]), entry.get("description", "")
            lines.append(row(f"`{entry['name']}`", entry["in"], kind, meaning))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines += ["", f"Body ({kind}): {schema_type(content['schema'])}."]
    lines += table("status", "body", "meaning")
    for status, response in sorted(operation["responses"].items()):
        bodies = [schema_type(content.get("schema", {})) for content in response.get("content", {}).values()]
        lines.append(row(status, ", ".join(filter(None, bodies)), response["description"]))
    return lines


def body_name(schema: str) -> str:
    """The name of a body; FastAPI names a form after its function: "Body_infer_infer_post" is called "InferForm"."""
    return f"{schema.split('_')[1].capitalize()}Form" if schema.startswith("Body_") else schema


def body_lines(name: str, body: Mapping[str, Any]) -> list[str]:
    """One body: its fields."""
    lines = ["", f"### {name}", "", body.get("description", ""), *table("field", "type", "required", "meaning")]
    for field, schema in body["properties"].items():
        required = "yes" if field in body.get("required", []) else "no"
        lines.append(row(f"`{field}`", schema_type(schema), required, schema.get("description", "")))
    return lines


def schema_type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words, with links to the bodies of this page."""
    if "$ref" in schema:
        name = body_name(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    for key in ("anyOf", "allOf"):
        if key in schema:
            return " or ".join(filter(None, (schema_type(part) for part in schema[key])))
    if schema.get("type") == "array":
        return f"list of {schema_type(schema.get('items', {})) or 'anything'}"
    if schema.get("type") == "string" and (schema.get("format") or "contentMediaType" in schema):
        return str(schema.get("format", "file"))
    return str(schema.get("type", ""))


# Command line


def commands_page() -> str:
    """Every command with its arguments and options."""
    group = typer.main.get_command(commands)
    lines = [
        "# Command line",
        "",
        "What `fedlmd --help` and `fedlmd COMMAND --help` print. An option can also be set by its environment",
        "variable, where it has one; containers are configured in this way.",
    ]
    for path, command in leaves("fedlmd", group):
        lines += ["", f"## `{path}`", "", plain(command.help or ""), "", "```", usage(path, command), "```"]
        shown = [item for item in command.params if item.name != "help"]
        if shown:
            lines += table("argument or option", "default", "environment", "meaning")
            lines += [parameter_row(item) for item in shown]
    return "\n".join(lines)


def leaves(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of the groups in it, with what one types for them."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, child in inner.items():
        yield from leaves(f"{path} {name}", child)


def usage(path: str, command: click.Command) -> str:
    """A command's line of usage."""
    return " ".join([path, *command.collect_usage_pieces(click.Context(command, info_name=path))])


def parameter_row(item: click.Parameter) -> str:
    """An argument or option as a line of a table."""
    option = item.param_type_name == "option"
    names = [*item.opts, *item.secondary_opts] if option else [item.human_readable_name]
    default = "number of cores" if item.default == CORES and item.name == "threads" else default_of(item)
    return row(
        ", ".join(f"`{name}`" for name in names),
        default,
        f"`{item.envvar}`" if item.envvar else "",
        plain(getattr(item, "help", None) or ""),
    )


def default_of(item: click.Parameter) -> str:
    """The default of an argument or option; "required" where there is none."""
    if item.required:
        return "required"
    shown = item.default in (None, "", False) or callable(item.default)
    return "" if shown else f"`{item.default}`"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
