"""docs/reference/settings.md, from `homeport.settings`."""

import inspect

from docs.generate import source
from docs.generate.markdown import page as markdown
from docs.generate.markdown import sentence

from homeport import settings
from homeport.cli import options

INTRO = """How homeport runs, in one place. A value comes from the first of these that has one:

1. a flag of the command, for the settings that have one;
2. an environment variable;
3. the file `config.toml` in the home;
4. the default.

The server reads its settings when it starts. To change one, run `homeport down`, then `homeport up`
with the new value.

```toml
# ~/.homeport/config.toml
http_port = 8080
workspace = "ada"
```"""
#: Settings that a flag of `serve`, `deploy` and `up` sets too.
FLAGS = {"host": options.Host, "http_port": options.HttpPort}


def page() -> str:
    """The page."""
    known = {"home", *settings.KEYS}  # other fields are not settings
    fields = [each for each in source.fields(settings.Settings) if each.name in known]
    return markdown("Settings", INTRO, *map(_one, fields))


def _one(field: source.Named) -> str:
    name = field.name
    lines = [f"## `{name}`", "", sentence(field.comment), ""]
    if name in FLAGS:
        lines.append(f"- Flag: `--{name.replace('_', '-')}` of `serve`, `deploy` and `up`")
    lines.append(f"- Environment: `HOMEPORT_{name.upper()}`")
    if name == "home":  # config.toml is in it
        lines.append("- Default: `~/.homeport`")
        return "\n".join(lines)
    lines.append(f"- In `config.toml`: `{name} = …`")
    lines.append(f"- Default: {_default(name)}")
    return "\n".join(lines)


def _default(name: str) -> str:
    if name == "workspace":
        return "your login name"
    if name in ("http_port", "https_port"):
        other = {"http_port": 80, "https_port": 443}[name]
        value = getattr(settings, f"DEFAULT_{name.upper()}")
        return f"`{value}`; `{other}` if `tls` is `acme` or `files`"
    value = inspect.signature(settings.Settings).parameters[name].default
    return "none" if value in (None, "") else f"`{value}`"
