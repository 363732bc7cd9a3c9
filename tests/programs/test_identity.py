"""Real programs under hooks that never match: nobody can tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from catalog import Catalog, environment

TIMES = int(os.environ.get("TRAPLINE_TIMES", "2"))


@pytest.mark.parametrize("name", Catalog(Path(), lambda *words: "").names())
def test_a_program_behaves_as_natively(name, tmp_path, victim, same_as_native, leaves_nothing):
    catalog = Catalog(tmp_path, victim)
    try:
        command, prepare = catalog.make(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    env = {} if name == "no_environment" else environment()
    if prepare is not None:
        prepare()
    # The first run of some fills caches: only from the second on do two native runs agree.
    subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=env, timeout=120)
    native = same_as_native(command, times=TIMES, prepare=prepare, env=env)
    assert native.stdout or name == "no_environment"


def test_input_passes_through_as_natively(same_as_native):
    data = os.urandom(1 << 20)
    assert (
        same_as_native(["sha256sum"], input=data).stdout
        == same_as_native(["sh", "-c", "cat | sha256sum"], input=data).stdout
    )
