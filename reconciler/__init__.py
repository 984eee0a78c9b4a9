"""Firmware upgrades, driven from Git.

Git says what should be, the database says what is, one pure function says the difference, one transaction
makes it so, and everything after that is a queue of device tasks moved by a table of transitions::

    Git ─source─▶ documents ─domain.desired─▶ DesiredState ┐
                                                           ├─domain.plan─▶ Plan ─services.apply─▶ store
                          store ─────────────▶ ActualState ┘
    store ─services.dispatch─▶ transport ─▶ devices (through our endpoint, or a broker), or the simulator
    devices ─▶ transport ─services.ingest─▶ domain.lifecycle ─▶ store   (state + event, one transaction)
    store ─services.status─▶ cli · metrics                artifacts ◀─ web.downloads

The folders are the steps of that flow; `pyproject.toml` holds the contract of who may import whom.
"""

__version__ = "0.1.0"
