"""Exported forms: JSON ``{"schema", "run", "records", ...}`` of a run, written and read; ``{"schema", "check",
"verdict", ...}`` of a check, written; and the JSON Schema of both."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import BenchError
from bench.records.gate_result import CHECK_SCHEMA, Check
from bench.records.record import SCHEMA, Run
from bench.records.upgrade import upgraded_run


def export(run: Run) -> str:
    """A document; numbers are finite, keys stable."""
    plain = run.model_dump(mode="json")
    document = {"schema": SCHEMA, "run": plain.pop("name"), **plain}
    return json.dumps(document, allow_nan=False, indent=1)


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
    """The run of a document of this schema or an older one; ``source`` names it in errors.

    Raises:
        BenchError: not such a document, or of a newer schema.
    """
    try:
        document = json.loads(text)
        if not isinstance(document, dict) or "records" not in document:
            raise TypeError("no 'records'")
        schema = document.pop("schema")
        if schema > SCHEMA:
            raise BenchError(f"{source} was exported by a newer evenbench; upgrade evenbench")
        document["name"] = document.pop("run")
        return Run.model_validate(upgraded_run(document, schema))
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise BenchError(f"{source} is not a document of bench export --format json: {reason}") from error
