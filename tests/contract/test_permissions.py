"""What the scopes of a token allow."""

import pytest

from homeport.contract.permissions import Permission, granted


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([], ""),
        (["read"], "read"),
        (["deploy"], "read deploy"),
        (["secrets"], "read secrets"),
        (["admin"], "read deploy secrets admin"),
    ],
)
def test_each_scope_grants_its_permissions(scopes, allowed):
    assert set(map(Permission, allowed.split())) == granted(map(Permission, scopes))
