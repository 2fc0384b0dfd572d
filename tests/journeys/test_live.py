"""A deploy on a real terminal: one line for a build, and a whole terminal whatever happens."""

import socket

APP = """
    import modal

    app = modal.App("shop")

    @app.function(image=modal.Image.debian_slim().uv_pip_install({package!r}))
    @modal.fastapi_endpoint()
    def price():
        import fastapi
        return 3
"""


def test_a_build_is_one_line_and_prints_everything_only_if_it_fails(terminal, write):
    deploy = terminal.on_a_screen("deploy", write(APP.format(package="fastapi")))
    code = deploy.end()
    words = [line for line in deploy.shown if line]

    assert 0 == code
    assert "✓ image of `price`: built" in words
    assert b"uv_pip_install" in deploy.written
    assert not [line for line in words if "pydantic" in line or "step 2" in line]
    assert any(line.startswith("✓ App deployed") for line in words)

    wrong = terminal.on_a_screen("deploy", write(APP.format(package="six==0.0.77")))
    assert 1 == wrong.end()
    words = "\n".join(wrong.shown)
    assert "six==0.0.77" in words
    assert "error: `uv_pip_install` failed" in words
    assert not wrong.screen.cursor.hidden

    long = terminal.on_a_screen(
        "deploy", write(APP.format(package=["fastapi", "six"])), "--build-log"
    )
    assert 0 == long.end()
    assert [line for line in long.shown if line.startswith("uv_pip_install:  + six")]


def test_ctrl_c_leaves_the_terminal_whole(terminal, write):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        app = APP.replace("{package!r}", f"'six', index_url={index!r}")
        deploy = terminal.on_a_screen("deploy", write(app))
        deploy.wait_for("step 2 of 2, uv_pip_install")
        deploy.press(b"\x03")
        code = deploy.end()

    assert 130 == code
    assert not deploy.screen.cursor.hidden
    assert "image of" not in "\n".join(deploy.shown)
    assert "interrupted: the server continues with the deploy" in "\n".join(deploy.shown)
