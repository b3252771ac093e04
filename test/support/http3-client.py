"""A client of HTTP/3 for tests, as http3.ts drives it: one request a line of JSON, and one answer.

It trusts one root alone, checks the name, keeps its connection as long as the server lets it, and sends again only what
the server says that it has not looked at (RFC 9114, 5.2).
A request that is `early` is sent with the first packet of a new connection, by the session of the last one (0-RTT).
"""

import asyncio
import json
import logging
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Rejected(ConnectionError):
    """The server says that it has not looked at the request."""


class Connection3(H3Connection):
    """Notes that the server wants no more requests on this connection."""

    is_going_away = False

    def _check_control_frame_type(self, frame_type):
        super()._check_control_frame_type(frame_type)
        if frame_type == FrameType.GOAWAY:
            self.is_going_away = True


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Connection3(self._quic)
        self.asked = {}
        self.is_over = False
        self.end = None

    async def ask(self, headers, body, pause_ms):
        stream = self._quic.get_next_available_stream_id()
        answer = asyncio.get_running_loop().create_future()
        self.asked[stream] = {"answer": answer, "headers": {}, "body": b""}
        self.http.send_headers(stream, headers, end_stream=body is None)
        if body is not None:
            if pause_ms > 0:
                half = len(body) // 2
                self.http.send_data(stream, body[:half], end_stream=False)
                self.transmit()
                await asyncio.sleep(pause_ms / 1_000)
                body = body[half:]
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await answer

    def fail(self, stream, error):
        answer = self.asked.pop(stream)["answer"]
        if not answer.done():
            answer.set_exception(error)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.is_over = True
            self.end = f"the connection was ended: {event.error_code:#x} {event.reason_phrase}"
            for stream in list(self.asked):
                self.fail(stream, ConnectionError(self.end))
        if isinstance(event, StreamReset) and event.stream_id in self.asked:
            is_rejected = event.error_code == ErrorCode.H3_REQUEST_REJECTED
            kind = Rejected if is_rejected else ConnectionError
            self.fail(event.stream_id, kind(f"the request was reset: {event.error_code:#x}"))
        for one in self.http.handle_event(event):
            asked = self.asked.get(one.stream_id)
            if asked is None:
                continue
            if isinstance(one, HeadersReceived):
                asked["headers"] |= {name.decode(): value.decode() for name, value in one.headers}
            if isinstance(one, DataReceived):
                asked["body"] += one.data
            if one.stream_ended:
                del self.asked[one.stream_id]
                asked["answer"].set_result(
                    {
                        "status": int(asked["headers"].pop(":status")),
                        "headers": asked["headers"],
                        "text": asked["body"].decode(),
                    }
                )


class Session:
    def __init__(self, host, port, hostname, root):
        self.host, self.port, self.hostname, self.root = host, port, hostname, root
        self.ticket = None
        self.opened = None
        self.client = None
        self.latest = None

    def create(self, *args, **kwargs):
        self.latest = Client(*args, **kwargs)
        return self.latest

    def keep_ticket(self, ticket):
        self.ticket = ticket

    async def open(self, early=False):
        await self.close()
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=self.hostname)
        configuration.load_verify_locations(cadata=self.root.encode())
        if early:
            configuration.session_ticket = self.ticket
        self.opened = connect(
            self.host,
            self.port,
            configuration=configuration,
            create_protocol=self.create,
            session_ticket_handler=self.keep_ticket,
            wait_connected=not early,
        )
        try:
            self.client = await self.opened.__aenter__()
        except ConnectionError as error:
            self.opened = None
            raise ConnectionError(self.latest.end) from error

    async def close(self):
        opened, self.opened, self.client = self.opened, None, None
        if opened is not None:
            await opened.__aexit__(None, None, None)

    async def send(self, headers, data, pause_ms, early):
        if early or self.client is None or self.client.is_over or self.client.http.is_going_away:
            await self.open(early)
        return await self.client.ask(headers, data, pause_ms)

    async def ask(self, method="GET", path="/", body=None, pauseMs=0, early=False):
        if early and self.ticket is None:
            raise ValueError("the server has given no ticket yet")
        headers = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", self.hostname.encode()),
            (b":path", path.encode()),
        ]
        data = None if body is None else body.encode()
        if data is not None:
            headers.append((b"content-length", str(len(data)).encode()))
        try:
            answer = await self.send(headers, data, pauseMs, early)
        except Rejected:
            await self.close()
            answer = await self.send(headers, data, pauseMs, False)
        answer["wasEarly"] = early and self.client._quic.tls.early_data_accepted
        return answer


async def main():
    logging.getLogger("quic").setLevel(logging.CRITICAL)  # whoever asks is told
    host, port, hostname, root = sys.argv[1:]
    session = Session(host, int(port), hostname, root)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await session.ask(**json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await session.close()


asyncio.run(main())
