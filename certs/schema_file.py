"""Writes `schema/modality-deletion-v1.json` from the models: ``python -m certs.schema_file``. A test compares them."""

import json
from pathlib import Path

from certs.statement import MODALITY_DELETION, DeletionStatement

SCHEMA_FILE = Path(__file__).parent / "schema" / "modality-deletion-v1.json"


def schema_text() -> str:
    """The JSON Schema (draft 2020-12) of the whole signed statement."""
    schema = DeletionStatement.model_json_schema(by_alias=True, mode="serialization")
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": MODALITY_DELETION}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
