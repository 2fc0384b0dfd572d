"""From an ordinary shell the soft limit is 1,024; a burst of visitors needs more."""

import subprocess
import sys

CODE = """
import resource
from homeport.control.main import raise_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
raise_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_the_server_raises_its_own_limit_of_open_files():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    assert "True\n" == done.stdout
