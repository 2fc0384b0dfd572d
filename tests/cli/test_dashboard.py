"""`homeport dashboard` as a user types it."""

from homeport.contract.api.dashboard import DashboardLink


async def test_the_link_is_printed_and_nothing_is_opened_without_a_screen(answered):
    told = DashboardLink(url="http://homeport--dashboard.localhost:4663/login#code", expires_at=1.0)
    async with answered({"POST /v1/dashboard": told}) as user:
        done = await user.run("dashboard", BROWSER="false", DISPLAY=":9")
        same = await user.run("dashboard", "--no-open")

    assert f"{told.url}\n" == done.stdout == same.stdout
    assert "The link works once, and for 60 seconds" in done.stderr
