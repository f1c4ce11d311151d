"""Requests on connections of their own, against servers that answer as they should not."""

import asyncio
from contextlib import suppress

import pytest

from luthier.engines.http_call import MOST_WAITING, Lost, calling

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kind: Some\r\n\r\n"


def call(answer, question, tmp_path, body=b"{}"):
    """What `question` makes of a server's `answer`, and what the server read."""
    heard, serving = [], []

    async def connected(reader, writer):
        serving.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        heard.append((head.decode(), await reader.readexactly(length)))
        try:
            for piece in answer:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            heard.append("gone")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def story():
        place = tmp_path / "socket"
        server = await asyncio.start_unix_server(connected, place)
        try:
            async with server, calling("http://here/v1/x?a=b", {"authorization": "Bearer k"}, body, place) as called:
                return await question(called)
        finally:
            await asyncio.gather(*serving)

    return asyncio.run(story()), heard


async def whole(called):
    return called.status, called.headers.get("x-kind"), await called.rest()


def test_a_body_in_chunks_cut_anywhere(tmp_path):
    said = CHUNKED + b"5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n"
    for size in (1, 7, len(said)):
        pieces = [said[start : start + size] for start in range(0, len(said), size)]
        found, [(head, body)] = call(pieces, whole, tmp_path)
        assert found == (200, "Some", b"hello there")
        assert body == b"{}"
    assert head.startswith("POST /v1/x?a=b HTTP/1.1\r\nhost: here\r\n")
    assert "authorization: Bearer k\r\n" in head


def test_a_get_and_a_body_that_ends_with_the_connection(tmp_path):
    found, [(head, _)] = call([b"HTTP/1.1 404 Nope\r\n\r\n", b"all", b" of it"], whole, tmp_path, body=None)
    assert found == (404, None, b"all of it")
    assert head.startswith("GET /v1/x")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "before it had answered"),
        ([b"HTTP/1.1 200 OK\r\nConte"], "before it had answered"),
        ([CHUNKED, b"5\r\nhel"], "before it had answered"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"], "before it had answered"),
        ([b"220 mail.example.org ESMTP\r\n"], "does not speak HTTP"),
        ([CHUNKED, b"no number\r\n"], "does not speak HTTP"),
    ],
)
def test_answers_that_break_off_are_lost(answer, words, tmp_path):
    with pytest.raises(Lost, match=words):
        call(answer, whole, tmp_path)


def test_nobody_there():
    async def ask(url):
        async with calling(url, {}, None):
            pass

    for url in ("http://127.0.0.1:1/", "http://nobody.invalid/", "http://127.0.0.1:99999/", "http://[x/", "http:///x"):
        with pytest.raises(Lost):
            asyncio.run(ask(url))


def test_who_reads_slowly_makes_the_server_wait(tmp_path):
    piece = b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16))

    async def slowly(called):
        first = await called.more()
        await asyncio.sleep(0.5)
        held = sum(map(len, called._pieces))
        return held, len(first) + held + len(await called.rest()) - held

    (held, total), _ = call([CHUNKED, *[piece] * 64, b"0\r\n\r\n"], slowly, tmp_path)
    assert held < MOST_WAITING + (1 << 20) < 64 << 16
    assert total == 64 << 16


def test_leaving_closes_the_connection(tmp_path):
    async def leave(called):
        return await called.more()

    found, heard = call([CHUNKED, b"1\r\na\r\n", *[b"1\r\nb\r\n"] * 200], leave, tmp_path)
    assert found.startswith(b"a")
    assert len(heard) <= 2
