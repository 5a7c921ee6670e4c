"""Packages whose parts are imported when they are first used."""

import pytest
from batteries import printed

from dipa.experiments import results
from dipa.lazy import lazy


def test_a_lazy_package_lists_what_it_has_and_refuses_the_rest():
    find, listed = lazy("dipa.experiments", ("results",), {"results": ("REQUIRED",)})
    assert find("results") is results and find("REQUIRED") is results.REQUIRED
    assert {"results", "REQUIRED", "Config"} <= {*listed()}
    with pytest.raises(AttributeError, match=r"module 'dipa\.experiments' has no attribute 'runs'"):
        find("runs")


@pytest.mark.parametrize("package", ["dipa", "dipa.experiments", "dipa.reports"])
def test_no_lazy_name_is_that_of_a_module(package):
    """Importing a module puts it under its name into the package, in the place of what the name
    would find.
    """
    program = f"""
import json, pkgutil, {package} as package
modules = {{found.name for found in pkgutil.iter_modules(package.__path__)}}
print(json.dumps(sorted(modules & {{name for names in package.HOMES.values() for name in names}})))
"""
    assert printed(program) == []
