"""Run a function of a test in a fresh process, as a client of the test's Hub."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_server import HubServer


def in_client(
    step: Callable[..., Any], hub: HubServer, token: str | None = None, xet: bool = False, **given: Any
) -> Any:
    """Call a function in a fresh process with fresh caches, where the client libraries are yet to be imported.

    Args:
        step: its source is what runs, so it must import what it uses; what it takes and returns goes by JSON.
        home: the folder for the caches, if not one of the function's own.
    """
    home = Path(given.pop("home", "") or hub.root / f"home-{step.__name__}")
    call = f"print(json.dumps({step.__name__}(**json.loads(sys.argv[1]))))"
    code = f"from __future__ import annotations\nimport json, sys\n{inspect.getsource(step)}\n{call}"
    command = [sys.executable, "-c", code, json.dumps(given)]
    ran = subprocess.run(command, env=hub.client_env(home, token, xet), capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])
