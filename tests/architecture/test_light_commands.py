"""Commands that need no model do not wait for torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["mbd.cli.app", "mbd.workflow.system", "mbd.workflow.log", "mbd.records.fsck", "api.witness", "api.app"]
)
def test_it_imports_without_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_measurement_can_fail():
    script = "import sys, mbd.workflow.live; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 1
