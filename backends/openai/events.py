"""Server-sent events: the `data` of each, as bytes arrive."""

from collections.abc import AsyncGenerator, AsyncIterator

_LONGEST = 1 << 24  # bytes of one event


class OverlongError(Exception):
    """An event that does not end."""


async def server_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each event, wherever the bytes were cut.

    Lines end at line feeds alone: JSON may hold every other character that text calls a line's end. An event that the
    stream ends in is no event. Raises OverlongError.
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
        if len(rest) + sum(map(len, data)) > _LONGEST:
            raise OverlongError
    if data and not rest:  # some servers leave out the last blank line
        yield b"\n".join(data)
