"""How a load ends whose command has gone."""

import os
import subprocess
import sys


def test_a_command_that_has_ended_hears_nothing_more_of_its_script(tmp_path):
    (tmp_path / "script.py").write_text('import modal\napp = modal.App("x")\n')
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "homeport.sdk.declare", "script.py"],
        cwd=tmp_path,
        pass_fds=(write,),
        env={**os.environ, "HOMEPORT_DECLARE_FD": str(write)},
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
