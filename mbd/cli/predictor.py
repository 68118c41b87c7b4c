"""``mbd predictor``: answers predictions for the API, until SIGTERM."""

import signal
import sys
import threading
from types import FrameType

from mbd.cli.options import Home
from mbd.cli.output import command, settings_for


def predictor(home: Home = None) -> None:
    """Answer predictions for the API, until SIGTERM.

    Holds the live version of every model line, and the next one as soon as it is live. It needs no key that signs, and
    listens on a Unix socket that its own user alone can open; a deployment has one. Prints the socket when it is ready.
    """
    with command(as_json=False) as out:
        from mbd.telemetry import logs
        from mbd.workflow.dumps import forbid_core_dumps
        from mbd.workflow.office import open_office
        from mbd.workflow.predicting.exchange import socket_of
        from mbd.workflow.predicting.service import answering, only_one

        stopping = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        settings = settings_for(home)
        logs.begin(sys.stderr, settings.log_level)
        forbid_core_dumps()  # models and clips are in its memory
        place = socket_of(settings)
        with open_office(settings) as office, only_one(place):
            from mbd.workflow.predicting.predictor import Predictor  # seconds, which a second one need not wait

            answerer = Predictor(office)
            answerer.refresh()
            with answering(answerer.answer, place):
                out.unbroken("Predictor", place)
                sys.stdout.flush()
                answerer.keep_fresh(stopping)
