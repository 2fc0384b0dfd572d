"""`python -m homeport.control`: started by the command line, never by hand."""

from homeport.control.main import main

if __name__ == "__main__":
    raise SystemExit(main())
