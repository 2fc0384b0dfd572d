"""`homeport app history`, `deploys` and `diff`: which versions an app has, who made them, and what differs."""

from homeport.cli import live, output, server
from homeport.cli.deploy import follow
from homeport.contract.api.apps import Changes, ChangesQuery, FileChange, SettingChange, Version
from homeport.contract.api.deploys import DeployQuery, DeployRecord
from homeport.settings import Settings

WHO = {"socket": "the server's own user", "token": "a token", "server": "homeport"}
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


async def history(settings: Settings, name: str, *, json: bool) -> None:
    """List an app's versions."""
    async with server.running(settings) as client:
        versions = await client.apps.history(name)
    if json:
        output.show_json(versions)
        return
    rows = [
        (
            f"v{version.version}",
            output.local_time(version.created_at),
            _who(version),
            version.tag,
            "serving" if version.current else f"canary, {canary.value}" if canary else "",
            next(iter(version.urls.values()), ""),
        )
        for version in versions
        for canary in (version.canary,)
    ]
    columns = ("Version", "Time deployed", "By", "Tag", "", "URL")
    output.show_table(columns, rows, empty="no version")


async def deploys(settings: Settings, query: DeployQuery, *, json: bool) -> None:
    """List deploys, rollbacks and stops."""
    async with server.running(settings) as client:
        listed = await client.deploys.every(query)
    if json:
        output.show_json(listed)
        return
    rows = [
        (
            deploy.id,
            output.local_time(deploy.at),
            deploy.app,
            deploy.kind,
            f"v{deploy.version}" if deploy.version else "",
            deploy.tag,
            _who(deploy),
            ""
            if deploy.ended_at is None
            else output.duration(round((deploy.ended_at - deploy.at) * 1000)),
            result(deploy),
            deploy.reason.partition("\n")[0],
        )
        for deploy in listed
    ]
    columns = ("Id", "Began", "App", "What", "Version", "Tag", "By", "Took", "Result", "Reason")
    output.show_table(columns, rows, empty="nothing was deployed yet")


def result(deploy: DeployRecord) -> str:
    """Return how a deploy ended, as a short text; `--json` has the kind of the error."""
    return (
        deploy.result if deploy.result in ("running", "ok", "skipped", "interrupted") else "failed"
    )


async def watch(settings: Settings, number: int) -> None:
    """Show the progress of a deploy until it ends."""
    async with server.running(settings) as client:
        deployed = await follow(client.deploys.progress(number), builds=live.Builds("deploying"))
    output.out().print(f"{deployed.app} v{deployed.version}")


async def diff(settings: Settings, name: str, query: ChangesQuery, *, json: bool) -> None:
    """Show what differs between two versions."""
    async with server.running(settings) as client:
        changes = await client.apps.changes(name, query)
    if json:
        output.show_json(changes)
        return
    for line in lines_of(changes):
        output.out().print(output.coloured(line, _COLOURS.get(line[:1], "")))
    if not changes.files and not changes.settings:
        output.say(f"v{changes.before} and v{changes.after} have the same files and settings")


def lines_of(changes: Changes) -> list[str]:
    """PURE: return the differences as lines."""
    lines: list[str] = []
    for setting in changes.settings:
        lines += _setting(setting)
    for file in changes.files:
        lines += file.diff.split("\n") if file.diff else [_file(file)]
    if changes.left_out:
        lines.append(f"… and {changes.left_out} more files")
    return lines


def _setting(change: SettingChange) -> list[str]:
    subject = f"{change.function}: {change.setting}" if change.function else change.setting
    lines = [f"@ {subject}"]
    for sign, text in (("-", change.before), ("+", change.after)):
        lines += [f"{sign}{line}" for line in text.split("\n")] if text is not None else []
    return lines


def _file(change: FileChange) -> str:
    before, after = change.before, change.after
    if before is None or after is None:
        there = after or before
        size = there.size_bytes if there is not None else 0
        return f"{'+' if before is None else '-'} {change.path} ({size} bytes)"
    if before.sha256 == after.sha256:
        return f"@ {change.path}: executable: {before.executable} -> {after.executable}"
    return f"@ {change.path}: {before.size_bytes} -> {after.size_bytes} bytes"


def _who(record: Version | DeployRecord) -> str:
    return record.user or WHO.get(record.by, record.by)
