"""A scheduled job that fills a Dict, and a page that shows what is in it.

uv run homeport deploy examples/weather_station.py
uv run homeport app list
curl 'http://you--weather-latest.localhost:4663'
"""

import os
import time

import homeport

app = homeport.App("weather")
readings = homeport.Dict.from_name("weather-readings", create_if_missing=True)
KEPT = 100


# At 9:00 on workdays it would be `homeport.Cron("0 9 * * 1-5", timezone="Europe/Paris")`.
@app.function(schedule=homeport.Period(seconds=5))
def measure():
    readings[int(time.time())] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    for old in sorted(readings.keys())[:-KEPT]:
        readings.pop(old, None)


@app.function()
@homeport.fastapi_endpoint()
def latest(count: int = 10):
    found = sorted(readings.items())[-count:]
    return [{"at": at, **reading} for at, reading in found]
