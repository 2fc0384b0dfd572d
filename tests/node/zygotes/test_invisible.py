"""Modules that are loaded ahead change nothing: a forked container behaves like a container with a fresh interpreter."""

import os
import shutil

from tests.node.zygotes.test_nursery import House, house  # noqa: F401 - the fixture

AT = "import time\nAT = time.monotonic_ns()\n"


async def say(house: House, *environs: dict[str, str]) -> list[str]:  # noqa: F811
    """Start a container with each of these variables; return what each answers."""
    return [await house.get(await house.start(environ)) for environ in environs]


async def test_a_variable_that_the_script_sets_above_an_import_counts_in_every_container(house):  # noqa: F811
    house.install("hub", f"{AT}import os\nHOME = os.environ.get('HUB', 'default')")
    house.install("other", AT)
    house.write(
        "print('begins', flush=True)\nos.environ['HUB'] = '/models'\nimport hub, other\n"
        "def say(): return [hub.HOME, other.AT]"
    )
    first = await house.start()
    await house.learned("hub")
    lines = len(house.watched.lines)
    second = await house.start()
    told = [eval(await house.get(each)) for each in (first, second)]
    said = [line.text for line in house.watched.lines[lines:]]
    await house.learned("other")
    last = [await house.start() for _ in range(2)]
    told += [eval(await house.get(each)) for each in last]

    assert ["/models"] * 4 == [home for home, _ in told]
    assert "fresh" == second.origin
    assert "HUB was changed" == second.why_fresh
    # It ran twice as far as the import, and its output is there once.
    assert 1 == said.count("begins")
    assert 1 == said.count("started in a fresh interpreter: HUB was changed")
    assert ["forked", "forked"] == [each.origin for each in last]
    assert told[2][1] == told[3][1]  # the other module is still loaded ahead


async def test_a_secret_that_has_changed_is_seen_by_the_next_container(house):  # noqa: F811
    house.install("kit", "import os\nKEY = os.environ.get('KEY')")
    house.write("import kit\ndef say(): return [kit.KEY, os.environ.get('KEY')]")
    await say(house, {"KEY": "a"})
    await house.learned("kit")
    told = await say(house, {"KEY": "a"}, {"KEY": "b"})
    await house.learned("kit")
    told += await say(house, {"KEY": "b"}, {})

    assert ["['a', 'a']", "['b', 'b']", "['b', 'b']", "[None, None]"] == told


async def test_all_variables_are_the_container_s_own_where_an_import_reads_all(house):  # noqa: F811
    house.install("settings", "import os\nALL = dict(os.environ)")
    house.write("import settings\ndef say(): return settings.ALL == dict(os.environ)")
    await say(house, {"KEY": "a"})
    await house.learned("settings")

    assert ["True", "True"] == await say(house, {"KEY": "a"}, {"KEY": "b"})


async def test_a_package_that_is_upgraded_in_place_is_the_next_container_s(house):  # noqa: F811
    house.install("kit", "V = 1")
    house.write("import kit\ndef say(): return kit.V")
    await say(house, {})
    await house.learned("kit")
    before = await say(house, {})
    house.install("kit", "V = 'two'")

    assert ["1", "two", "two"] == before + await say(house, {}, {})


async def test_a_module_that_is_not_imported_this_time_is_not_there(house):  # noqa: F811
    house.install("kit", "import kit_inner")
    house.install("kit_inner", "")
    house.write(
        "import sys\nif os.environ.get('WITH'): import kit\n"
        "def say(): return [name in sys.modules for name in ('kit', 'kit_inner')]"
    )
    await say(house, {"WITH": "1"})
    await house.learned("kit")

    assert ["[True, True]", "[False, False]"] == await say(house, {"WITH": "1"}, {"WITH": ""})


async def test_the_imports_of_an_app_are_not_those_of_another(house):  # noqa: F811
    house.install("kit", AT)
    house.write(
        "import sys\ntry:\n    if os.environ['HOMEPORT_APP'] == 'app': import kit\nfinally: pass\n"
        "def say(): return 'kit' in sys.modules"
    )
    await house.start()
    await house.learned("kit")
    other = await house.start(app="other")

    assert "False" == await house.get(other)
    (function,) = [
        f for f in house.agent._zygotes._functions.all() if f.launch.order.pool.app == "other"
    ]
    assert [] == [name for name in function.learned.modules if name == "kit"]


async def test_a_new_revision_is_forked_from_the_zygote_of_the_one_before(house):  # noqa: F811
    """And has its own files, whatever the zygote's imports have seen of the other revision's."""
    house.install("kit", AT)
    house.install("reader", "import os\nFOUND = os.path.exists('x') and open('x').read()")
    (house.source / "x").write_text("one")
    house.write("import kit, reader\ndef say(): return [kit.AT, reader.FOUND]")
    await house.start()
    await house.learned("kit")
    await house.learned("reader")
    first = eval(await house.get(await house.start()))
    old, house.source = house.source, house.source.with_name("source-2")
    house.source.mkdir()
    (house.source / "kit_local.py").write_text("")
    house.write(
        "import kit\ndef say(): return [kit.AT, os.getcwd(), os.path.exists('kit_local.py')]"
    )
    second = eval(await house.get(await house.start(revision="rv-2")))
    (house.source / "x").write_text("two")
    house.write("import reader\ndef say(): return reader.FOUND")
    third = await house.start(revision="rv-3")
    shutil.rmtree(old)

    assert first[1] == "one"
    assert [first[0], str(house.source), True] == second
    assert "two" == await house.get(third)
    assert "fresh" == third.origin


async def test_a_revision_with_other_variables_has_a_zygote_of_its_own(house):  # noqa: F811
    house.install("kit", AT)
    house.write("import kit\ndef say(): return kit.AT")
    await house.start({"KEY": "a"})
    await house.learned("kit")
    first, second = await say(house, {"KEY": "a"}, {"KEY": "b"})

    assert first != second


async def test_the_list_of_learned_imports_outlives_the_server(house):  # noqa: F811
    house.install("kit", AT)
    house.write("import kit\ndef say(): return kit.AT")
    await house.start()
    await house.learned("kit")
    (file,) = house.agent._zygotes._functions._root.iterdir()

    assert '"kit"' in file.read_text()
    assert 0o600 == os.stat(file).st_mode & 0o600
