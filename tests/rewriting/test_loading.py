"""What decodes instructions is loaded once, whoever asks first."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import threading
from trapline.rewriting import instructions

barrier, failures = threading.Barrier(8), []

def decode():
    barrier.wait()
    try:
        assert instructions.decode_one(b"\\x0f\\x05", 0, 0).len == 2
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
"""


def test_several_threads_may_be_the_first_to_decode():
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
