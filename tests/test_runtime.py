"""Several processes of one run: who waits for whom, and how long."""

import os
import socket
import subprocess
import sys

# Rank 1 waits for the main process in two groups at once: in that of all collective calls, which
# gives up after half a second, and in `Runtime.barrier`. Only then does the main process arrive.
PATIENCE = """
import os, threading
from datetime import timedelta
import torch.distributed as dist
from torch.distributed import distributed_c10d
from avmix.training import runtime

child = os.fork()
os.environ["RANK"] = "0" if child else "1"
distributed_c10d.default_pg_timeout = timedelta(seconds=0.5)
with runtime.start(device="cpu", threads=1) as here:
    store, arrived = distributed_c10d._get_default_store(), []
    if here.is_main:
        store.wait(["gave up"], timedelta(minutes=2))
        here.barrier()
    else:
        waiting = threading.Thread(target=lambda: arrived.append(here.barrier()))
        waiting.start()
        try:
            dist.barrier()
        except RuntimeError as error:
            print("others:", str(error).lower().count("timed out") > 0, flush=True)
        store.set("gave up", "yes")
        waiting.join()
        print("barrier:", arrived == [None], flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def test_others_wait_for_the_main_process_longer_than_collective_calls_may_take() -> None:
    """While it probes a table, say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", PATIENCE], env=environment, capture_output=True,
                          text=True, timeout=240)  # fmt: skip
    assert done.stdout == "others: True\nbarrier: True\n", done.stderr
    assert done.returncode == 0, done.stderr
