"""MQTT 3.1.1 without any I/O: bytes in, packets and actions out.

    packets      what is said: one immutable value a packet, and its bytes
    decoding     the bytes of one packet, read strictly
    parser       a stream of bytes cut into packets, in bounded memory
    access       which topics a device may use
    connection   the server's side of one connection

The device endpoint is the server; the simulator's devices use the same packets as clients. QoS 2, retained
messages and sessions that outlive a connection are not there, on purpose: the platform needs none of them.
"""
