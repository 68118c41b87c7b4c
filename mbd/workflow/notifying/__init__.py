"""Tells people what became of their requests, and sends the codes by which they prove that a contact is theirs.

`contact` says how somebody can be reached, `texts` what is said, `notifier` and `mail` how it is sent, `sending` when,
and `codes` what a code that comes back is worth. It knows no HTTP and no model.
"""

from mbd.workflow.notifying.codes import verify_code
from mbd.workflow.notifying.contact import check_contact
from mbd.workflow.notifying.notifier import Letter, Notifier, open_notifier
from mbd.workflow.notifying.sending import forget_contacts, send_due

__all__ = ["Letter", "Notifier", "check_contact", "forget_contacts", "open_notifier", "send_due", "verify_code"]
