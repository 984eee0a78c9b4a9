"""TLS between a session and its socket, without a socket: ciphertext in, plain text out, and back.

asyncio's own TLS keeps 256 KiB for each connection from its first byte on, known or not; with a memory BIO it is
what OpenSSL needs. Called by `sessions` only.
"""

from __future__ import annotations

import contextlib
import ssl


class TlsLayer:
    """The server's side of one TLS connection.

    Args:
        context: a server's context, with its certificate loaded.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "_shaken", "ended")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self.ended = False
        """True when the client said goodbye: nothing comes after it."""

    def decrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        """The plain text that these bytes complete. Ask `encrypt` for the answer that they may need.

        Raises:
            ssl.SSLError: the client does not speak TLS as we do.
        """
        self._incoming.write(data)
        plain = []
        try:
            if not self._shaken:
                self._object.do_handshake()
                self._shaken = True
            while chunk := self._object.read(65536):
                plain.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        return b"".join(plain)

    def encrypt(self, data: bytes | bytearray) -> bytes:
        """What is to be written for this plain text, and for TLS itself.

        After an error of TLS, or its end, nothing more can be said to this client.
        """
        if data:
            with contextlib.suppress(ssl.SSLError):
                self._object.write(data)
        return self._outgoing.read()

    def close(self) -> bytes:
        """What is to be written to end the connection properly."""
        with contextlib.suppress(ssl.SSLError):  # the client's goodbye is not waited for
            self._object.unwrap()
        return self._outgoing.read()
