"""Devices that know only the wire: thousands in one process, with faults on demand.

    push        what a real SDK takes for a push
    device      what a device does, as scripts of actions
    faults      how scripts go wrong
    client      MQTT for a device
    download    HTTP for a device
    blocks      the same over MQTT, block by block
    runner      carries one device's scripts out
    fleet       many devices

Nothing here may know how the server side works: the simulator stands for devices in the field, as a judge.
"""
