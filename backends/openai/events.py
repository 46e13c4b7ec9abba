"""Server-sent events: the `data` field of each, parsed as bytes arrive."""

from collections.abc import AsyncGenerator, AsyncIterator

_MAX_BYTES = 1 << 24
"""Most bytes of one event."""


class OversizedEventError(Exception):
    """An event that exceeds the limit of 16 MiB."""


async def server_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the data of each event, independent of how the stream is cut into chunks.

    Only line feeds end a line: JSON may contain the other characters that Unicode counts as line ends. An event that
    the end of the stream interrupts is dropped. Raises OversizedEventError.
    """
    rest, data = b"", list[bytes]()
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line and data:
                yield b"\n".join(data)
                data = []
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
        if len(rest) + sum(map(len, data)) > _MAX_BYTES:
            raise OversizedEventError
    if data and not rest:  # some servers leave out the last blank line
        yield b"\n".join(data)
