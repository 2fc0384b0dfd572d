from tests.state.conftest import database

__all__ = ["database"]
