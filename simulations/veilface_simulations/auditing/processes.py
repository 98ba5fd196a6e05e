"""What several processes draw from the shipped noise; run as a program, it is one of them."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import Pipe, get_all_start_methods, get_context
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from veilface_client.noise import SecureNoise

NUMBERS = 100_000  # of each process


def drawn_in_processes() -> list[NDArray[np.float64]]:
    """Return what is drawn in a new process, in two forks of this one, and here: each [NUMBERS]."""
    here = SecureNoise()
    here.standard(1)  # begun, as it is where a server forks its workers
    drawn = [_in_a_new_process()]
    if "fork" in get_all_start_methods():
        drawn += [_in_a_fork(here), _in_a_fork(here)]
    return [*drawn, here.standard(NUMBERS)]


def _in_a_new_process() -> NDArray[np.float64]:
    command = [sys.executable, "-m", __spec__.name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 -- this file
    return np.frombuffer(done.stdout)


def _in_a_fork(inherited: SecureNoise) -> NDArray[np.float64]:
    receiver, sender = Pipe(duplex=False)
    child = get_context("fork").Process(target=_send, args=(sender, inherited))
    child.start()
    sender.close()
    drawn = np.frombuffer(receiver.recv_bytes())
    child.join()
    return drawn


def _send(sender: Connection, inherited: SecureNoise) -> None:
    sender.send_bytes(inherited.standard(NUMBERS).tobytes())


if __name__ == "__main__":
    sys.stdout.buffer.write(SecureNoise().standard(NUMBERS).tobytes())
