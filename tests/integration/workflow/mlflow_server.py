"""MLflow's own server application over an SQLite store, as `mlflow server` runs it: prints its port and serves.

``mlflow server`` itself wants all of MLflow, which does not go with our pyarrow; its Flask application wants less.
"""

import os
import sys

from werkzeug.serving import make_server

store, artifacts = sys.argv[1:]
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "_MLFLOW_SERVER_FILE_STORE": store,
    "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
}

from mlflow.server import app  # noqa: E402 - it reads the environment when it is loaded

server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)  # noqa: T201 - for whoever started it
server.serve_forever()
