"""Writes the files of `schema/` from the models: ``python -m certs.schema_file``. A test compares them."""

import json
from pathlib import Path

from certs.absence_statement import MODALITY_ABSENCE, AbsenceStatement
from certs.destruction_statement import VERSION_DESTRUCTION, DestructionStatement
from certs.statement import MODALITY_DELETION, DeletionStatement
from certs.wire import Wire

FOLDER = Path(__file__).parent / "schema"
SCHEMAS: dict[str, tuple[str, type[Wire]]] = {
    "modality-deletion-v1.json": (MODALITY_DELETION, DeletionStatement),
    "modality-absence-v1.json": (MODALITY_ABSENCE, AbsenceStatement),
    "version-destruction-v1.json": (VERSION_DESTRUCTION, DestructionStatement),
}
"""Predicate type and model, by the name of the file."""


def schema_text(name: str) -> str:
    """The JSON Schema (draft 2020-12) of a whole signed statement."""
    predicate_type, model = SCHEMAS[name]
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": predicate_type}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        (FOLDER / name).write_text(schema_text(name), encoding="utf-8")
