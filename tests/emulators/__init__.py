"""Devices in the field, as far as they are peculiar: typed anew from what their SDKs do, sharing nothing with us.

Each module behaves as one reader of one SDK does, mistakes included (device protocol §1). Tests give them everything
that we send. What such a device would drop, misread, or wait for without end is an exception here.
"""
