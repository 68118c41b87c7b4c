"""Workers are killed at every step and between all of them: each request ends, with one certificate on each line."""

import signal

import pytest

STEPS = "mbd.workflow.steps"
DELETING = "mbd.workflow.deleting"
ENGINE = "mbd.workflow.jobs.dbos_engine"

# Where a worker dies, in the order in which the work comes there. "After" a step of `Work` its effect is durable and
# the engine does not know it; "before" one, the engine has kept the step before it.
PLACES = [
    [
        (ENGINE, "DbosJobs.enqueue", "before", 1),
        (ENGINE, "DbosJobs.enqueue", "after", 1),
        (STEPS, "Work.begin", "before", 1),
        (STEPS, "Work.begin", "after", 1),
        (STEPS, "Work.delete", "before", 1),
        (DELETING, "_unlearn", "after", 1),
        (DELETING, "_write", "after", 1),
        (DELETING, "register_deletion", "after", 1),  # signed and logged in a transaction that is never committed
    ],
    [
        (DELETING, "_certify", "after", 1),
        (STEPS, "Work.delete", "after", 1),
        (STEPS, "Work.delete", "after", 2),
        (STEPS, "Work.publish", "before", 1),
        (STEPS, "publish_certificate", "after", 1),
        (STEPS, "Work.publish", "after", 1),
    ],
    [
        (STEPS, "Work.destroy", "before", 1),
        (STEPS, "remove_unregistered", "after", 1),
        (STEPS, "Work.destroy", "after", 1),
        (STEPS, "Work.end", "before", 1),
        (STEPS, "Work.end", "after", 1),
    ],
]


@pytest.mark.parametrize("places", PLACES, ids=["begin", "certify", "end"])
def test_a_request_whose_workers_die_one_after_another_ends_with_one_certificate_on_each_line(site, people, places):
    site.approve(people[0])
    for place in places:
        worker = site.start(*place, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL, worker.said.read_text()
        site.check_whole(done=False)
        site.bury()
    site.finish()
    site.check_whole(done=True)
