"""Commands that need no model do not wait for torch, and nobody waits for what sends traces before it is asked for."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["mbd.cli.app", "mbd.workflow.system", "mbd.workflow.log", "mbd.records.fsck", "api.witness", "api.app"]
)
def test_it_imports_without_torch_and_without_what_sends_traces(module):
    script = f"import sys, {module}; sys.exit(bool({{'torch', 'opentelemetry.sdk'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_measurement_can_fail():
    script = "import sys, mbd.workflow.live; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 1
