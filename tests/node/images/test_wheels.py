"""Which packages are fetched into the cache that all images share."""

from homeport.contract.image import Step
from homeport.node.images import wheels


def test_only_packages_with_a_name_of_the_usual_indexes_are_fetched_for_all():
    args = {
        "requirements": "six==1 --hash=sha256:ab\n-r other\n./here\na[x] ; python_version>'3'\n"
    }

    assert ["six==1", "a[x] ; python_version>'3'"] == wheels.named(
        Step(name="pip_install_from_requirements", args=args)
    )
    assert [] == wheels.named(Step(name="pip_install", args={**args, "index_url": "https://mine"}))
