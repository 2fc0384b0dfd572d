"""uvicorn's server is imported without the rest of its package, which is there for whoever asks."""

import subprocess
import sys

CODE = """
import sys
from homeport.control.api import uvicorn_server
assert "uvicorn.main" not in sys.modules
import uvicorn
assert (uvicorn.Config, uvicorn.Server) == (uvicorn_server.Config, uvicorn_server.Server)
assert "uvicorn.main" not in sys.modules
assert not hasattr(uvicorn, "__wrapped__")
assert "uvicorn.main" not in sys.modules
from uvicorn import run
assert uvicorn.run is run is sys.modules["uvicorn.main"].run
assert uvicorn.__version__
assert not hasattr(uvicorn, "nothing")
assert uvicorn.Server is uvicorn_server.Server
"""


def test_the_package_runs_for_the_first_attribute_that_the_api_does_not_need():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


def test_a_package_that_runs_already_stays():
    code = "import uvicorn\nbefore = uvicorn\n" + CODE.replace(
        'assert "uvicorn.main" not in sys.modules\n', ""
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nassert before is uvicorn"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
