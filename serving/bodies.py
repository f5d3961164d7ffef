"""A request's body to the bytes of its picture, or a refusal that says in a line what is wrong with it."""

import asyncio
from collections.abc import AsyncIterator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

SECONDS = 30  # for a body to arrive
DISCARDED = 4  # times the limit are read of a body above it: a client that still sends would not read the answer
FORM, BYTES = "multipart/form-data", "application/octet-stream"
HOW = f"send the file as {FORM}, as {BYTES} or as image/*; for example: curl -F picture=@part.png URL"


class _InMemory(MultiPartParser):
    """A parser that needs no temporary file; the body is in memory already."""

    spool_max_size = 2**40


async def picture(request: Request, most: int) -> bytes:
    """Return the bytes of the picture that a request brings, as its body or as the one file of a form.

    Args:
        request: a POST.
        most: bytes of the body.

    Raises:
        HTTPException: 408 too slow, 413 too large, 415 of another type, 422 not one picture.
    """
    kind = request.headers.get("content-type", BYTES).partition(";")[0].strip().lower()
    if kind not in (FORM, BYTES) and not kind.startswith("image/"):
        raise HTTPException(415, f"The body is {kind[:80]}: {HOW}.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "The body has a Content-Encoding: send the file as it is.")
    body = await _read(request, most)
    content = await _file(request, body) if kind == FORM else body
    if not content:
        raise HTTPException(422, f"The body has no picture: {HOW}.")
    return content


async def _read(request: Request, most: int) -> bytes:
    """Read a body; never keep more than `most` bytes of it."""
    large = HTTPException(
        413, f"The body is larger than {most / 2**20:g} MiB: send a smaller file.", {"Connection": "close"}
    )
    declared = int(request.headers.get("content-length", 0))
    if declared > most and "expect" in request.headers:  # such a client waits for an answer before it sends
        raise large
    body, count = bytearray(), 0
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                count += len(chunk)
                if count <= most:
                    body += chunk
                elif count > DISCARDED * most:
                    break
    except TimeoutError as error:
        line = f"The body did not arrive within {SECONDS} s: send it faster."
        raise HTTPException(408, line, {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The connection was closed before the body had arrived.") from error
    if count > most:
        raise large
    return bytes(body)


async def _file(request: Request, body: bytes) -> bytes:
    """Return the content of the one file of a form."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await _InMemory(request.headers, stream(), max_files=1, max_fields=10).parse()
    except MultiPartException as error:
        raise HTTPException(422, f"The form cannot be read ({error.message}): {HOW}.") from error
    for value in form.values():
        if isinstance(value, UploadFile):
            return await value.read()
    raise HTTPException(422, f"The form has no file: {HOW}.")
