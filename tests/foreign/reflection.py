#!/usr/bin/env python3
"""grpc_reflection.py against a control plane of its own.

    pip install -r requirements.txt
    reflection.py
"""

import pathlib
import subprocess
import sys

import kit

plane = kit.ControlPlane()


@kit.check
def a_grpc_stack_that_is_not_ours_works_with_nothing_but_reflection():
    script = pathlib.Path(__file__).with_name("grpc_reflection.py")
    flags = ["--target", plane.grpc, "--token-file", str(plane.data / "operator.token")]
    arguments = [sys.executable, str(script), *flags]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, timeout=kit.CHECK_S)
    assert done.returncode == 0, f"exit code {done.returncode}"


kit.main(plane)
