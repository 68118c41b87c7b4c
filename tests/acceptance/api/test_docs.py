"""The examples of docs/api.md, run as they stand there."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_examples_of_the_page_work(api, people, mbd, home):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text("utf-8"), re.DOTALL)
    known = {
        "url": str(api.client.base_url),
        "agent_key": api.caller("agent").headers["authorization"].removeprefix("Bearer "),
        "officer_key": api.caller("officer").headers["authorization"].removeprefix("Bearer "),
        "person": people[0],
    }
    *first, last = (compile(block, "docs/api.md", "exec") for block in blocks)
    assert len(first) == 2
    for block in first:
        exec(block, known)  # noqa: S102 - what the page says is what is tested
    assert known["approved"]["state"] == "approved"
    resumed = mbd("revoke", "--resume", "--home", home)  # a worker's work
    assert resumed.code == 0, resumed.err
    exec(last, known)  # noqa: S102 - likewise
    assert known["now"]["state"] == "completed"
    assert [certificate["line"] for certificate in known["now"]["certificates"]] == ["demo"]
    for client in (known["agent"], known["officer"]):
        client.close()
