"""Exported forms: JSON ``{"schema", "run", "records", ...}`` of a run, written and read; ``{"schema", "check",
"verdict", ...}`` of a check, written; and the JSON Schema of both."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import BenchError
from bench.records import untrusted
from bench.records.gate_result import CHECK_SCHEMA, Check
from bench.records.record import SCHEMA, Run
from bench.records.upgrade import upgraded_run

ESCAPED = re.compile(r"\\[^\"\\]|\x7f")
"""In JSON of ASCII, a character that may have to be replaced."""


def export(run: Run, indent: int | None = 1) -> str:
    """A document; numbers are finite, keys stable. ``indent`` None: on one line."""
    plain = run.model_dump(mode="json")
    document = {"schema": SCHEMA, "run": plain.pop("name"), **plain}
    text = json.dumps(document, allow_nan=False, indent=indent)
    if ESCAPED.search(text) is None:
        return text
    return json.dumps(untrusted.printable(document), allow_nan=False, indent=indent)


def export_check(check: Check) -> str:
    """The whole result of a check: verdicts, intervals, pairs."""
    plain = check.model_dump(mode="json")
    document = {"schema": plain.pop("schema_version"), "check": plain.pop("name"), **plain}
    return json.dumps(document, allow_nan=False, indent=1)


def run_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what ``export`` writes."""
    return _document_schema(Run, "run", SCHEMA)


def check_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what ``export_check`` writes."""
    return _document_schema(Check, "check", CHECK_SCHEMA)


def _document_schema(model: type[BaseModel], name: str, version: int) -> dict[str, Any]:
    schema = model.model_json_schema(mode="serialization")
    properties = {key: value for key, value in schema["properties"].items() if key not in ("name", "schema_version")}
    named = {**schema["properties"]["name"], "title": name.capitalize()}
    schema["properties"] = {"schema": {"const": version}, name: named, **properties}
    schema["required"] = list(schema["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def parse_export(text: str, source: str) -> Run:
    """The run of a document of this schema or an older one; ``source`` names it in errors. A document is not trusted:
    see ``bench.records.untrusted``.

    Raises:
        BenchError: not such a document, or of a newer schema.
    """
    try:
        document = untrusted.parse(text)
        schema = document.pop("schema")
        if type(schema) is not int or schema < 1:
            raise untrusted.RefusedError(f"schema: not a number from 1 to {SCHEMA}")
        if schema > SCHEMA:
            raise BenchError(f"{source} was exported by a newer evenbench; upgrade evenbench")
        untrusted.check_shape(document)
        document["name"] = document.pop("run")
        # As JSON and strict: a number in quotes is none, a list may become a tuple.
        run = Run.model_validate_json(json.dumps(upgraded_run(document, schema)), strict=True)
        untrusted.check_run(run)
    except ValidationError as error:
        raise _no_export(source, untrusted.first_error(error)) from error
    except KeyError as error:
        raise _no_export(source, f"{error} is missing") from error
    except ValueError as error:
        raise _no_export(source, str(error).splitlines()[0]) from error
    return run


def _no_export(source: str, reason: str) -> BenchError:
    return BenchError(f"{source} is not a document of bench export --format json: {reason}")
