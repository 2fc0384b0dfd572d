"""What wrk prints."""

import shutil

import pytest

from bench import load

QUIET = """\
Running 2s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     7.27ms    1.22ms  21.53ms   91.97%
    Req/Sec     4.43k   324.53     4.81k    85.00%
  Latency Distribution
     50%  950.00us
     75%    7.31ms
     90%    8.03ms
     99%    1.02s
  8823 requests in 2.00s, 1.25MB read
Requests/sec:   4406.94
Transfer/sec:    641.24KB
"""
BAD = QUIET.replace(
    "Requests/sec",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
    "  Non-2xx or 3xx responses: 50000\nRequests/sec",
)


def test_a_run_is_read():
    expected = load.Load(requests=8823, per_s=4406.94, p50_us=950.0, p99_us=1_020_000.0, errors=0)

    assert expected == load.parse(QUIET)


def test_every_kind_of_error_is_counted():
    assert 54_321 == load.parse(BAD).errors


@pytest.mark.parametrize("text", ["", QUIET.replace("8823 requests", "0 requests")])
def test_a_run_without_an_answer_is_no_figure(text):
    with pytest.raises(ValueError, match="no "):
        load.parse(text)


def test_a_missing_wrk_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert shutil.which("wrk") is None
    with pytest.raises(load.NoWrk, match="apt-get install wrk"):
        load.available()
