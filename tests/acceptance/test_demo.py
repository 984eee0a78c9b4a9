"""What the README's first command runs."""

from __future__ import annotations

from daemons import cli


def test_the_demo_upgrades_fifty_devices_and_says_so_in_its_last_line():
    shown = cli("demo", within=110)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "50 of 50 devices upgraded"
