"""The five commands of docs/security.md lead from keys to an order over TLS."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

from infra.local.services import ROOT, free_environment
from tests.docs.pages import blocks, section

PAGE = ROOT / "docs" / "security.md"
PATIENCE_S = 120.0


def test_a_first_order_over_tls_in_five_commands(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    env = {**os.environ, **free_environment(folder)}
    (block,) = blocks(section(PAGE, "## Try it"))
    commands = [line.partition("  # ")[0].strip() for line in block.text.splitlines()]
    assert len(commands) == 5
    script = "\n".join(commands).replace(". .data/", f". {shlex.quote(str(folder))}/")
    for name, port in (("ORDER", "8001"), ("PRODUCT", "8002")):
        script = script.replace(f"localhost:{port}", f"localhost:{env[f'{name}_PORT']}")
    script = script.replace("just up &", f"just up >{shlex.quote(str(tmp_path / 'up.log'))} 2>&1 & up=$!;")
    try:
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{script}\nkill $up\nwait $up || true\n"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError((tmp_path / "up.log").read_text() + str(late.stderr)) from late
    finally:
        for running in _running_with(folder):
            os.kill(running, signal.SIGTERM)

    answers = [json.loads(one) for one in _objects(done.stdout)]
    assert [answer.get("status") for answer in answers if "order_id" in answer] == ["CONFIRMED"], done
    assert any(answer.get("product_id") == "mug" for answer in answers), done.stdout
    assert done.returncode == 0, done.stderr


def _objects(text: str) -> list[str]:
    """The JSON objects that stand one behind the other in a text."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = text.find("{", end)
    return found


def _running_with(folder: Path) -> list[int]:
    """The processes of this machine whose environment names the folder; none where there is no /proc."""
    wanted, found = f"DATA_DIR={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
