"""The order of messages, their proofs, renegotiation and what comes after the handshake."""

from tlslite.constants import ContentType, HandshakeType
from tlslite.messages import ChangeCipherSpec, Message

from client import TLS12, TLS13, after, handshake, instead, kind, message

FINISHED, KEY_EXCHANGE = HandshakeType.finished, HandshakeType.client_key_exchange
HELLO_REQUEST, KEY_UPDATE, TICKET = 0, 24, 4


def within(version, of, change):
    return lambda target: target.served(version=version, tamper=instead(of, change))


def spoilt(msg):
    data = bytearray(msg.write())
    data[-1] ^= 1
    return handshake(data)


def shorter(msg):
    body = bytes(msg.write())[4:-1]
    return handshake(message(msg.write()[0], body))


def no_ccs(target):
    """The key exchange, and then Finished under keys that the client never said it would use."""
    return target.served(
        version=TLS12, tamper=lambda _, msg: [] if msg.contentType == ContentType.change_cipher_spec else [msg]
    )


def early_ccs(target):
    """Before there are keys: what CVE-2014-0224 let pass."""
    return target.served(version=TLS12, tamper=instead(KEY_EXCHANGE, lambda msg: [ChangeCipherSpec().create(), msg]))


def early_content(version):
    """A request in place of Finished, under the keys of the handshake."""
    request = Message(ContentType.application_data, bytearray(b"GET / HTTP/1.1\r\nHost: open.test\r\n\r\n"))
    return lambda target: target.served(version=version, tamper=instead(FINISHED, lambda _: request))


def point(data):
    return within(TLS12, KEY_EXCHANGE, lambda _: handshake(message(16, bytes([len(data)]) + data)))


def renegotiate(times, version=TLS12):
    """A second hello under the keys of the first, as often. A warning refuses it."""

    def case(target):
        data = target.hello(version=TLS12)[5:]
        with target.connect(version=version) as client:
            client.say(*[handshake(data)] * times)
            return client.ask()

    return case


def second_hello(version):
    """In the middle of the handshake."""
    of = KEY_EXCHANGE if version == TLS12 else FINISHED
    return lambda target: target.served(
        version=version, tamper=lambda c, m: [handshake(target.hello(version=TLS12)[5:]), m] if kind(m) == of else [m]
    )


def joined(target):
    """Finished, and in its record what must come under the next keys."""
    update = message(KEY_UPDATE, b"\0")
    return target.served(version=TLS13, tamper=instead(FINISHED, lambda msg: handshake(bytes(msg.write()) + update)))


def key_update(target):
    with target.connect(version=TLS13) as client:
        return client.update_keys()


CASES = {
    "finished-wrong": within(TLS13, FINISHED, spoilt),
    "finished-wrong-1.2": within(TLS12, FINISHED, spoilt),
    "finished-too-short": within(TLS13, FINISHED, shorter),
    "finished-too-short-1.2": within(TLS12, FINISHED, shorter),
    "finished-twice": within(TLS13, FINISHED, lambda msg: [msg, msg]),
    "finished-with-more-in-its-record": joined,
    "content-instead-of-finished": early_content(TLS13),
    "content-instead-of-finished-1.2": early_content(TLS12),
    "hello-in-the-middle": second_hello(TLS13),
    "hello-in-the-middle-1.2": second_hello(TLS12),
    "no-key-exchange": within(TLS12, KEY_EXCHANGE, lambda _: None),
    "key-exchange-twice": within(TLS12, KEY_EXCHANGE, lambda msg: [msg, msg]),
    "key-exchange-of-no-bytes": point(b""),
    "key-exchange-of-zeros": point(bytes(32)),
    "key-exchange-too-short": point(b"\1" * 31),
    "key-exchange-of-another-length": within(
        TLS12, KEY_EXCHANGE, lambda _: handshake(message(16, b"\x40" + b"\1" * 32))
    ),
    "ccs-before-the-keys": early_ccs,
    "ccs-left-out": no_ccs,
    "key-update": key_update,
    "key-update-of-another-value": after(TLS13, handshake(message(KEY_UPDATE, b"\7"))),
    "key-update-of-two-bytes": after(TLS13, handshake(message(KEY_UPDATE, b"\0\0"))),
    "ticket-from-the-client": after(TLS13, handshake(message(TICKET, bytes(13)))),
    "hello-request-from-the-client": after(TLS12, handshake(message(HELLO_REQUEST, b""))),
    "message-of-an-unknown-kind-after": after(TLS13, handshake(message(77, b"hello"))),
    "message-cut-by-content": after(TLS13, Message(ContentType.handshake, bytearray(b"\x18\0\0"))),
    "renegotiation": renegotiate(1),
    "renegotiation-over-and-over": renegotiate(30),
    "renegotiation-in-1.3": renegotiate(1, TLS13),
}
