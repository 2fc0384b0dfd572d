"""`python -m homeport.control`: started by the command line, never by hand."""

import gc

# Nothing that a start makes is garbage, and each collection would look at all of it: `main.run` begins them.
gc.disable()

from homeport.control.main import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
