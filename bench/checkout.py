"""Which version of the code a run measures or tests, so that another person can repeat the run."""

import subprocess

from infra.local.services import ROOT


def commit() -> str:
    """The commit of this checkout, with `-dirty` if files differ from it; `unknown` outside a git repository."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=False)
    return described.stdout.decode().strip() or "unknown"
