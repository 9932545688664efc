"""The server of `avmix explore`: on the loopback interface, behind `LocalGuard`."""

import asyncio
import logging
import secrets
import signal
import socket
import warnings
import webbrowser
from pathlib import Path

from avmix.evaluation.clip_shots import read_shots
from avmix.evaluation.most_wrong import most_wrong
from avmix.evaluation.prediction_file import read_predictions
from avmix.explore.clip_shelf import ClipShelf
from avmix.explore.explored_mix import Explorer
from avmix.explore.local_guard import LocalGuard
from avmix.system.printing import echo

MAX_UPLOAD_BYTES = 256 << 20
_ENVELOPE_BYTES = 1 << 16
"""What a form adds to the file in it."""
NOT_INSTALLED = (
    "NiceGUI is not installed, which shows the page: pip install '.[explore]' in the checkout"
)


def serve(
    shelf: ClipShelf,
    explorer: Explorer,
    *,
    predictions: Path | None,
    port: int,
    opens_browser: bool,
) -> None:
    """Serve the page until Ctrl-C; prints its address.

    `predictions`: those of which the clips with the highest loss are shown; None: none. `port`: 0
    for a free one. Raises ValueError where NiceGUI is missing or there are no predictions, OSError
    where the port is taken.
    """
    try:
        import uvicorn
        from fastapi import FastAPI
        from nicegui import ui

        from avmix.explore.local_page import Exhibition, Gallery, build_page
    except ImportError:
        raise ValueError(NOT_INSTALLED) from None
    gallery = None
    if predictions is not None:
        kept = read_predictions(predictions)
        gallery = Gallery(clips=tuple(most_wrong(kept)), shots=read_shots(predictions.parent, kept))
    build_page(Exhibition(
        shelf=shelf, explorer=explorer, gallery=gallery, max_upload_bytes=MAX_UPLOAD_BYTES,
        lock=asyncio.Lock(),
    ))  # fmt: skip
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(app, title="avmix explore", dark=None, tailwind=False, show_welcome_message=False)
    logging.getLogger("nicegui").setLevel(logging.ERROR)
    # As it starts, NiceGUI looks at every object, deprecated ones of torch as well.
    warnings.filterwarnings("ignore", category=FutureWarning, module="nicegui")
    token = secrets.token_urlsafe(24)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()  # who reads the address may ask at once
        bound = listening.getsockname()[1]
        guard = LocalGuard(
            app, port=bound, token=token, max_body_bytes=MAX_UPLOAD_BYTES + _ENVELOPE_BYTES
        )
        server = uvicorn.Server(uvicorn.Config(
            guard, log_level="error", access_log=False, server_header=False, date_header=False,
            proxy_headers=False, ws_max_size=1 << 20, timeout_graceful_shutdown=1, lifespan="on",
        ))  # fmt: skip
        # uvicorn takes Ctrl-C once it serves, and passes it on at its end; before, a
        # KeyboardInterrupt would leave NiceGUI half started, and the program waiting for it.
        signal.signal(signal.SIGINT, lambda *_: setattr(server, "should_exit", True))
        address = f"http://127.0.0.1:{bound}/?token={token}"
        echo(f"{address}\nopen this address in a browser on this machine; Ctrl-C ends it",
             keep="\n")  # fmt: skip
        if opens_browser:
            webbrowser.open(address)
        server.run(sockets=[listening])
