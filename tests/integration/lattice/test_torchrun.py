"""Two ranks, started by torchrun and joined by gloo, end with the bits of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

RANKS = 2


@pytest.fixture(scope="module")
def found(stored, tmp_path_factory):
    """What each of the ranks says in the end."""
    target = tmp_path_factory.mktemp("ranks") / "rank"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--master-addr=127.0.0.1"]
    script = Path(__file__).with_name("rank.py")
    done = subprocess.run(
        [sys.executable, *launcher, f"--master-port={port}", script, stored.model, stored.cohort, target],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(Path(f"{target}-{rank}").read_text()) for rank in range(RANKS)]


def test_every_rank_ends_with_the_commitment_of_one_process(found, stored):
    assert [rank["commitment"] for rank in found] == [stored.made.commitment] * RANKS


def test_the_ranks_shared_the_rows(found, stored):
    assert [rank["ranks"] for rank in found] == [RANKS] * RANKS
    assert sum(rank["rows"] for rank in found) == stored.made.statistics.rows
    assert all(rank["rows"] for rank in found)


def test_a_rank_keeps_its_own_statistics(found):
    assert all(rank["unchanged"] for rank in found)


def test_gloo_adds_int64_without_rounding(found):
    total = (2**61 + 1) + (2**61 + 3)
    assert int(float(total)) != total
    assert [rank["odd"] for rank in found] == [[total, -total, -total, 2]] * RANKS


def test_all_ranks_refuse_when_one_has_another_layout(found):
    assert {rank["layouts"] for rank in found} == {"The ranks' statistics belong to different layouts or grids."}


def test_all_ranks_refuse_when_their_rows_together_could_round(found, stored):
    most = stored.made.statistics.grid.max_rows
    for rank in found:
        assert rank["bound"].startswith(f"{RANKS * most:,} rows on the grid")
        assert rank["bound"].endswith(f"the bound is {most:,} rows.")
