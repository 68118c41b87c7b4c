"""SPEC.md and the program say the same."""

import re
from pathlib import Path

import pytest

import certs
from certs.absence_statement import AbsenceStatement, ModalityAbsence
from certs.errors import Code
from certs.rules import RELATIVE_TOLERANCE
from certs.statement import DeletionStatement, ModalityDeletion
from certs.verification import STEPS

FOLDER = Path(certs.__file__).parent
SPEC = (FOLDER / "SPEC.md").read_text(encoding="utf-8")


def test_the_table_of_codes_has_every_code_once_and_no_other():
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| [\d, -]+ \|", SPEC, re.MULTILINE)
    assert sorted(listed) == sorted(Code)


def test_every_code_is_used():
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py") if path.name != "errors.py")
    assert [code.name for code in Code if f"Code.{code.name}" not in sources] == []


def test_the_steps_have_the_same_numbers_and_titles():
    assert dict(re.findall(r"^(\d)\. \*\*(.+?)\.\*\*", SPEC, re.MULTILINE)) == {str(n): t for n, t in STEPS.items()}


@pytest.mark.parametrize(
    ("statement", "predicate"), [(DeletionStatement, ModalityDeletion), (AbsenceStatement, ModalityAbsence)]
)
def test_every_member_of_a_predicate_is_described_in_its_section(statement, predicate):
    predicate_type = statement.model_fields["predicate_type"].annotation.__args__[0]
    section = re.search(rf"^### 2\.\d `{re.escape(predicate_type)}`\n(.+?)^##", SPEC, re.MULTILINE | re.DOTALL)[1]
    table = re.findall(r"^\| `([A-Za-z]+)` \| ", section, re.MULTILINE)
    assert {field.alias for field in predicate.model_fields.values()} == set(table)


def test_the_tolerance_is_the_one_that_the_specification_allows():
    assert RELATIVE_TOLERANCE == 1e-9
    assert "1e-9 relative" in SPEC
