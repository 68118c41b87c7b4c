"""A deployment's sender of call-backs, with every format that it speaks: the one place that knows them by name."""

import ssl

from mbd.workflow.callbacks import opendsr, standard
from mbd.workflow.callbacks.formats import Format
from mbd.workflow.callbacks.policy import UrlPolicy
from mbd.workflow.callbacks.sending import Sender
from mbd.workflow.office import Office
from mbd.workflow.opendsr import open_processor


def open_sender(office: Office) -> Sender:
    """The sender of an office, which lasts as long as that. Without MBD_OPENDSR_DOMAIN call-backs by OpenDSR wait.

    Raises:
        SettingsError: a rule for URLs cannot be read, or the key or certificate of OpenDSR cannot be used.
    """
    formats: dict[str, Format] = {standard.NAME: standard.StandardWebhooks(office.identities)}
    processor = open_processor(office)
    if processor is not None:
        formats[opendsr.NAME] = opendsr.OpenDsr(office.engine, processor)
    return Sender(
        office.engine, formats, UrlPolicy.of(office.settings), ssl.create_default_context(), clock=office.clock
    )
