"""The record layer: types, lengths, seals, and what may stand in a record at all."""

import socket

from tlslite.messages import Message

from client import PATIENCE, TLS12, TLS13, after, heard, message, record

ALERT, APPLICATION, CCS, HANDSHAKE, HEARTBEAT = 21, 23, 20, 22, 24


def first(*records):
    """Before anything else."""
    return lambda target: target.raw(*records)


def cut(target):
    """Half a record, and the client's end."""
    with socket.create_connection(target.address, PATIENCE) as wire:
        wire.sendall(target.hello()[:100])
        wire.shutdown(socket.SHUT_WR)
        return heard(wire)


def ssl2(target):
    hello = b"\1\3\3" + b"\0\3\0\0\0\x10" + b"\0\0\x2f" + bytes(16)
    return target.raw((0x8000 | len(hello)).to_bytes(2, "big") + hello)


def split(target):
    """Every byte of the hello's message in a record of its own."""
    data = target.hello()[5:]
    with socket.create_connection(target.address, PATIENCE) as wire:
        wire.sendall(b"".join(record(HANDSHAKE, data[i : i + 1]) for i in range(len(data))))
        return "answered" if wire.recv(1) == bytes([HANDSHAKE]) else "refused"


def hello_with(pieces):
    """Records made of the hello's message."""
    return lambda target: target.raw(*pieces(target.hello()[5:]))


def sealed(version, change):
    """After the handshake, a record whose bytes `change` spoils after they were sealed."""

    def case(target):
        with target.connect(version=version) as client:
            send = client._recordLayer._recordSocket._sockSendAll
            client._recordLayer._recordSocket._sockSendAll = lambda data: send(change(bytearray(data)))
            return client.ask()

    return case


def spoilt(index):
    def change(data):
        data[index] ^= 1
        return data

    return change


def longer(length):
    """Says so, and is so."""

    def change(data):
        return data[:3] + length.to_bytes(2, "big") + data[5:] + bytearray(length - len(data) + 5)

    return change


def unsealed(version, *records):
    """After the handshake, in the clear."""

    def case(target):
        with target.connect(version=version) as client:
            client.wire(b"".join(records))
            return client.ask()

    return case


def in_the_middle(*records):
    """Beside the client's last flight of TLS 1.3, in the clear."""

    def tamper(client, msg):
        if msg.contentType == HANDSHAKE and msg.write()[0] == 20:
            client.wire(b"".join(records))
        return [msg]

    return lambda target: target.served(version=TLS13, tamper=tamper)


def nothing_inside(target):
    """A sealed record of TLS 1.3 that is padding alone."""
    with target.connect(version=TLS13) as client:
        layer = client._recordLayer
        seal = layer._encryptThenSeal
        layer._encryptThenSeal = lambda data, content: seal(bytearray(20), content)
        return client.ask()


def empty_many(target):
    """Empty records of content, which are allowed, over and over."""
    return after(None, *[Message(APPLICATION, bytearray())] * 20)(target)


def warnings_many(target):
    return target.raw(*[record(ALERT, b"\1\x5a")] * 50)


CASES = {
    "record-of-an-unknown-type": first(record(99, b"hello")),
    "record-of-content-first": first(record(APPLICATION, b"hello")),
    "record-of-a-heartbeat-first": first(record(HEARTBEAT, b"\1\0\5hello")),
    "record-of-ccs-first": first(record(CCS, b"\1")),
    "record-of-an-alert-first": first(record(ALERT, b"\2\x28")),
    "record-too-long": first(record(HANDSHAKE, b"x" * 16400, length=18500)),
    "record-of-no-handshake-bytes": hello_with(lambda data: [record(HANDSHAKE, b"")]),
    "record-cut": cut,
    "record-of-another-major-version": hello_with(lambda data: [record(HANDSHAKE, data, (9, 9))]),
    "records-interleaved": hello_with(
        lambda data: [record(HANDSHAKE, data[:50]), record(CCS, b"\1"), record(HANDSHAKE, data[50:])]
    ),
    "hello-in-records-of-one-byte": split,
    "alert-of-three-bytes": first(record(ALERT, b"\2\x28\0")),
    "ccs-of-two-bytes": first(record(CCS, b"\1\1")),
    "warnings-without-end": warnings_many,
    "plain-http": first(b"GET / HTTP/1.1\r\nHost: open.test\r\n\r\n"),
    "ssl-2-hello": ssl2,
    "finished-first": first(record(HANDSHAKE, message(20, bytes(32)))),
    "key-exchange-first": first(record(HANDSHAKE, message(16, bytes(33)))),
    "message-of-an-unknown-kind-first": first(record(HANDSHAKE, message(77, b"hello"))),
    "seal-broken": sealed(TLS13, spoilt(-1)),
    "seal-broken-1.2": sealed(TLS12, spoilt(-1)),
    "sealed-bytes-changed": sealed(TLS13, spoilt(8)),
    "sealed-bytes-changed-1.2": sealed(TLS12, spoilt(15)),
    "sealed-record-too-long": sealed(TLS13, longer(16384 + 257)),
    "sealed-record-too-long-1.2": sealed(TLS12, longer(16384 + 2049)),
    "sealed-record-too-short": sealed(TLS13, lambda data: data[:3] + b"\0\5" + data[5:10]),
    "sealed-record-too-short-1.2": sealed(TLS12, lambda data: data[:3] + b"\0\5" + data[5:10]),
    "sealed-record-of-padding": nothing_inside,
    "sealed-heartbeat": after(TLS13, Message(HEARTBEAT, bytearray(b"\1\0\5hello"))),
    "heartbeat-1.2": after(TLS12, Message(HEARTBEAT, bytearray(b"\1\x40\0"))),
    "ccs-after-the-handshake": unsealed(TLS13, record(CCS, b"\1")),
    "ccs-after-the-handshake-1.2": after(TLS12, Message(CCS, bytearray(b"\1"))),
    "content-in-the-clear": unsealed(TLS13, record(APPLICATION, b"GET / HTTP/1.1\r\n\r\n")),
    "content-in-the-clear-1.2": unsealed(TLS12, record(APPLICATION, b"GET / HTTP/1.1\r\n\r\n")),
    "ccs-in-the-middle": in_the_middle(record(CCS, b"\1")),
    "ccs-in-the-middle-of-another-value": in_the_middle(record(CCS, b"\2")),
    "finished-in-the-clear": in_the_middle(record(HANDSHAKE, message(20, bytes(32)))),
    "alert-in-the-clear": in_the_middle(record(ALERT, b"\2\x28")),
    "empty-records-of-content": empty_many,
}
