"""The import contracts are there, and no package stands outside of them. `make check` holds the code against them."""

import tomllib

import pytest

CONTRACTS = {
    "certs stands alone: nothing of ours, no torch, no SQL",
    "Science has floors: attacks, deletion, then lattice and training, then backbones and metrics, then cohort",
    "Science knows neither evidence nor records nor settings",
    "Records know errors and hashing, nothing else of ours, and no science",
    "Privacy is mathematics: no data, no model, no torch",
    "torch lives in cohort, backbones, training, lattice, deletion, attacks and ranks",
    "SQLAlchemy lives in records, workflow and migrations",
    "The API knows evidence, records and settings, and no science, not even through others",
    "FastAPI lives only in api",
}


@pytest.fixture(scope="module")
def contracts(root):
    configuration = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    assert configuration["include_external_packages"] is True
    return configuration["contracts"]


def test_the_contracts_are_in_force(contracts):
    assert {contract["name"] for contract in contracts} >= CONTRACTS


def test_no_package_stands_outside_of_the_contracts(contracts, root):
    bound = {"mbd.cli", "mbd.workflow"} | {
        name.strip()
        for contract in contracts
        for entry in contract.get("source_modules", contract.get("layers", []))
        for name in entry.split("|")
    }
    packages = {f"mbd.{path.parent.name}" for path in (root / "mbd").glob("*/__init__.py")}
    assert packages
    assert packages <= bound
