"""Both ends of gRPC, by its own library, with bytes for messages.

    grpc_peer.py serve                              prints the port, serves until its input ends
    grpc_peer.py SCENARIO TARGET AUTHORITY CA [CERT KEY]   speaks through TARGET over TLS; exit 0 where all is as it must be
"""

import os
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "portolan.test.Peer"
MIB = 1 << 20


class Peer:
    """What the server has seen, asked for by a call of its own."""

    def __init__(self):
        self.cancelled = 0
        self.sent = 0
        self.received = 0

    def unary(self, request, context):
        metadata = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", metadata.get("x-ask", "none")),))
        context.set_trailing_metadata((("x-last", "seen"), ("x-last-bin", b"\x00\xff\x01")))
        if request == b"fail":
            context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05\x12\x04gone"), ("x-last", "failed")))
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100% gone, \u00fcberall")
        if request == b"wait":
            self.wait(context)
        if request == b"budget":
            return str(context.time_remaining()).encode()
        return request

    def wait(self, context):
        over = threading.Event()
        context.add_callback(over.set)
        if over.wait(20) and not context.is_active():
            self.cancelled += 1

    def server_stream(self, request, context):
        count, size = (int(word) for word in request.split())
        self.sent = 0
        for n in range(count):
            if not context.is_active():
                return
            yield n.to_bytes(4, "big") + bytes(size - 4)
            self.sent += size

    def client_stream(self, requests, context):
        self.received = 0
        total = 0
        for n, request in enumerate(requests):
            if n == 0 and request == b"slowly":
                time.sleep(3)
            total += len(request)
            self.received = total
        return str(total).encode()

    def bidi(self, requests, context):
        for request in requests:
            if request == b"abort":
                context.abort(grpc.StatusCode.ABORTED, "midway")
            yield request

    def seen(self, request, context):
        return f"{self.cancelled} {self.sent} {self.received}".encode()


def serve():
    peer = Peer()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(peer.unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(peer.server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(peer.client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(peer.bidi),
        "Seen": grpc.unary_unary_rpc_method_handler(peer.seen),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


class Client:
    def __init__(self, target, authority, ca, *pair):
        ca, *pair = (open(name, "rb").read() for name in (ca, *pair))
        credentials = grpc.ssl_channel_credentials(ca, *reversed(pair))
        options = [("grpc.ssl_target_name_override", authority), ("grpc.default_authority", authority)]
        self.channel = grpc.secure_channel(target, credentials, options)
        path = f"/{SERVICE}/"
        self.unary = self.channel.unary_unary(path + "Unary")
        self.server_stream = self.channel.unary_stream(path + "ServerStream")
        self.client_stream = self.channel.stream_unary(path + "ClientStream")
        self.bidi = self.channel.stream_stream(path + "Bidi")
        self.seen_call = self.channel.unary_unary(path + "Seen")

    def seen(self):
        return [int(word) for word in self.seen_call(b"", timeout=10).split()]

    def until(self, what, wanted):
        for _ in range(200):
            seen = self.seen()
            if wanted(*seen):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{what}: {seen}")


def refused(call, code):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"it was answered, and {code} was expected")


def shapes(client):
    """The four shapes of a call, empty and large messages among them."""
    for message in (b"", b"x", bytes(3 * MIB)):
        assert client.unary(message, timeout=10) == message
    assert [len(m) for m in client.server_stream(b"100 5000", timeout=10)] == [5000] * 100
    assert list(client.server_stream(b"0 4", timeout=10)) == []
    assert client.client_stream((bytes(1000) for _ in range(100)), timeout=10) == b"100000"
    assert client.client_stream(iter(()), timeout=10) == b"0"
    assert list(client.bidi((b"%d" % n for n in range(100)), timeout=10)) == [b"%d" % n for n in range(100)]


def ping_pong(client):
    """Neither side waits for the other to be done."""
    turn = threading.Semaphore(1)

    def requests():
        for n in range(50):
            turn.acquire()
            yield b"%d" % n

    for n, answer in enumerate(client.bidi(requests(), timeout=20)):
        assert answer == b"%d" % n
        turn.release()
    assert n == 49


def metadata(client):
    answer, call = client.unary.with_call(b"m", timeout=10, metadata=(("x-ask", "this"), ("x-ask-bin", b"\x00\xfe")))
    assert answer == b"m"
    assert dict(call.initial_metadata())["x-first"] == "this"
    trailing = dict(call.trailing_metadata())
    assert (trailing["x-last"], trailing["x-last-bin"]) == ("seen", b"\x00\xff\x01"), trailing


def status(client):
    error = refused(lambda: client.unary(b"fail", timeout=10), grpc.StatusCode.NOT_FOUND)
    assert error.details() == "no such thing: 100% gone, \u00fcberall", error.details()
    trailing = dict(error.trailing_metadata())
    assert trailing["grpc-status-details-bin"] == b"\x08\x05\x12\x04gone", trailing
    assert trailing["x-last"] == "failed"
    answers = client.bidi(iter((b"one", b"abort")), timeout=10)
    assert next(answers) == b"one"
    error = refused(lambda: next(answers), grpc.StatusCode.ABORTED)
    assert error.details() == "midway"
    missing = client.channel.unary_unary(f"/{SERVICE}/Missing")
    refused(lambda: missing(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)


def deadline(client):
    """It reaches the endpoint, and its end does too."""
    assert 5 < float(client.unary(b"budget", timeout=10)) <= 10
    refused(lambda: client.unary(b"wait", timeout=0.5), grpc.StatusCode.DEADLINE_EXCEEDED)
    client.until("the endpoint hears of the deadline", lambda cancelled, *_: cancelled == 1)


def cancel(client):
    call = client.unary.future(b"wait", timeout=20)
    time.sleep(0.5)
    call.cancel()
    client.until("the endpoint hears of a cancelled unary call", lambda cancelled, *_: cancelled == 1)
    answers = client.server_stream(b"100000 65536", timeout=20)
    next(answers)
    answers.cancel()
    settled(client, 1)


def settled(client, index):
    """What the server counts, once it no longer changes."""
    before, since = None, time.time()
    while time.time() - since < 1:
        now = client.seen()[index]
        if now != before:
            before, since = now, time.time()
        time.sleep(0.1)
    return before


def backpressure(client):
    """A reader that pauses stops the writer; nobody in between takes in what is not read."""
    answers = client.server_stream(b"4096 65536", timeout=60)
    next(answers)
    sent = settled(client, 1)
    assert sent < 24 * MIB, f"{sent} bytes were taken from the endpoint for a client that reads nothing"
    assert sum(len(answer) for answer in answers) == 4095 * 65536
    taken = [0]

    def requests():
        yield b"slowly"
        for _ in range(2048):
            taken[0] += 65536
            yield bytes(65536)

    call = client.client_stream.future(requests(), timeout=60)
    time.sleep(2)
    assert taken[0] < 24 * MIB, f"{taken[0]} bytes were taken from the client for an endpoint that reads nothing"
    assert call.result() == str(2048 * 65536 + 6).encode()


def held(client):
    """Says every line of its input on one stream, and prints what comes back, and how the stream ended."""
    try:
        for answer in client.bidi((line.encode() for line in iter(sys.stdin.readline, "")), timeout=120):
            print(answer.decode(), end="", flush=True)
        print("ended: OK", flush=True)
    except grpc.RpcError as error:
        print(f"ended: {error.code().name}", flush=True)
    # A thread still waits for input.
    os._exit(0)


def answers(code, reason):
    def scenario(client):
        error = refused(lambda: client.unary(b"x", timeout=10), code)
        assert reason in error.details(), error.details()
        headers = dict(error.initial_metadata() or ()) | dict(error.trailing_metadata() or ())
        assert headers.get("portolan-reason") == reason, headers
        refused(lambda: list(client.server_stream(b"1 4", timeout=10)), code)
        refused(lambda: client.client_stream(iter((b"x",)), timeout=10), code)
        refused(lambda: list(client.bidi(iter((b"x",)), timeout=10)), code)

    return scenario


SCENARIOS = {
    "shapes": shapes,
    "ping_pong": ping_pong,
    "metadata": metadata,
    "status": status,
    "deadline": deadline,
    "cancel": cancel,
    "backpressure": backpressure,
    "held": held,
    "no_route": answers(grpc.StatusCode.UNIMPLEMENTED, "NoRoute"),
    "unreachable": answers(grpc.StatusCode.UNAVAILABLE, "EndpointUnreachable"),
    "no_endpoint": answers(grpc.StatusCode.UNAVAILABLE, "Invalid"),
    "late": answers(grpc.StatusCode.DEADLINE_EXCEEDED, "ResponseTimeout"),
}

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        SCENARIOS[sys.argv[1]](Client(*sys.argv[2:]))
