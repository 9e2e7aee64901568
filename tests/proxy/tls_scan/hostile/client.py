"""A TLS client that says what it is told to say, well-formed or not, and tells how the server took it.

Target ──connect──▶ Client: a handshake of tlslite-ng whose messages pass `tamper` on their way out
       ──raw──────▶ bytes on a bare socket, and the alert that comes back in the clear
"""

import socket
from copy import copy
from dataclasses import dataclass

from tlslite.api import HandshakeSettings, Session, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import AlertDescription, AlertLevel, ContentType, HandshakeType, KeyUpdateMessageType
from tlslite.errors import TLSAbruptCloseError, TLSLocalAlert, TLSRemoteAlert
from tlslite.messages import Message
from tlslite.x509 import X509

PATIENCE = 10
TLS12, TLS13 = (3, 3), (3, 4)


@dataclass(frozen=True)
class Identity:
    """A client's certificate and key."""

    chain: X509CertChain
    key: object

    @staticmethod
    def load(directory, name):
        chain = X509CertChain()
        chain.parsePemList((directory / f"{name}.pem").read_text())
        return Identity(chain, parsePEMKey((directory / f"{name}.key").read_text(), private=True))


def der(data):
    """Anything that stands where a certificate would. The library looks at nothing but the bytes."""
    certificate = X509()
    certificate.bytes = bytearray(data)
    return certificate


@dataclass(frozen=True)
class Target:
    """One host of a listener, and who one must be to be served there."""

    address: tuple
    host: str
    identity: Identity | None
    people: dict
    others: dict

    def connect(self, tamper=None, **how):
        client = Client(self, tamper)
        client.shake(**how)
        return client

    def served(self, **how):
        """What comes of a handshake and a request."""
        with self.connect(**how) as client:
            return client.ask()

    def raw(self, *pieces):
        """What comes back, in the clear, for these bytes: the first alert, or how the connection ends."""
        with socket.create_connection(self.address, PATIENCE) as wire:
            for piece in pieces:
                wire.sendall(piece)
            return heard(wire)

    def hello(self, version=TLS13, **how):
        """The records of a client hello that the server would take."""
        return bytes(Recorder(self).hello(version=version, **how))


def heard(wire):
    while True:
        header = exactly(wire, 5)
        if header is None:
            return "closed"
        body = exactly(wire, int.from_bytes(header[3:], "big"))
        if body is None:
            return "closed"
        if header[0] == ContentType.alert:
            return AlertDescription.toStr(body[1]) if body[0] == 2 else f"warning {AlertDescription.toStr(body[1])}"


def exactly(wire, length):
    found = b""
    while len(found) < length:
        piece = wire.recv(length - len(found))
        if not piece:
            return None
        found += piece
    return found


def record(content, data, version=(3, 3), length=None):
    length = len(data) if length is None else length
    return bytes([content, *version]) + length.to_bytes(2, "big") + bytes(data)


def message(kind, body, length=None):
    """A handshake message."""
    length = len(body) if length is None else length
    return bytes([kind]) + length.to_bytes(3, "big") + bytes(body)


def handshake(data):
    """Bytes as a handshake message of its own, counted into the transcript."""
    return Message(ContentType.handshake, bytearray(data))


def fresh(msg):
    """The library adds to the bytes of a message when it seals them."""
    return Message(msg.contentType, bytearray(msg.data)) if type(msg) is Message else msg


def kind(msg):
    """Of a handshake message; None for everything else."""
    return msg.write()[0] if msg.contentType == ContentType.handshake else None


def instead(of, change):
    """Sends what `change` makes of every handshake message of this kind: messages, or None to leave it out."""

    def tamper(_client, msg):
        if kind(msg) != of:
            return [msg]
        made = change(msg)
        return [] if made is None else made if isinstance(made, list) else [made]

    return tamper


def hello(change):
    """Changes the fields of the client hello in place."""

    def edit(msg):
        change(msg)
        return msg

    return instead(HandshakeType.client_hello, edit)


def after(version, *messages):
    """What comes of these messages after the handshake."""

    def case(target):
        with target.connect(version=version) as client:
            client.say(*messages)
            return client.ask()

    return case


class Client(TLSConnection):
    def __init__(self, target, tamper=None):
        super().__init__(socket.create_connection(target.address, PATIENCE))
        self.target, self.tamper = target, tamper

    def shake(self, version=None, identity="own", session=None, name=None, configure=None, alpn=(b"http/1.1",)):
        settings = HandshakeSettings()
        settings.minVersion, settings.maxVersion = (TLS12, TLS13) if version is None else (version, version)
        # The library would compress its certificate unasked.
        settings.certificate_compression_send = settings.certificate_compression_receive = ()
        settings.keyShares = ["x25519"]
        settings.eccCurves = ["x25519", "secp256r1", "secp384r1"]
        if configure:
            configure(settings)
        identity = self.target.identity if identity == "own" else identity
        self.handshakeClientCert(
            *((identity.chain, identity.key) if identity else (None, None)),
            session=session,
            settings=settings,
            serverName=name or self.target.host,
            alpn=[bytearray(protocol) for protocol in alpn] or None,
        )

    def _sendMsg(self, msg, randomizeFirstBlock=True, update_hashes=True):
        for each in self.tamper(self, msg) if self.tamper else [msg]:
            yield from super()._sendMsg(fresh(each), randomizeFirstBlock, update_hashes)

    def _clientResume(self, session, serverHello, *rest):
        """The library takes it for granted that its ticket is taken. Only the number that comes back says so."""
        taken = session and session.sessionID and serverHello.session_id == session.sessionID
        yield from super()._clientResume(session if taken else None, serverHello, *rest)

    def say(self, *messages):
        """After the handshake, or in the middle of it: under the keys of the moment."""
        for each in messages:
            for _ in super()._sendMsg(fresh(each)):
                pass
        self.sock.flush()

    def wire(self, data):
        """Past the record layer."""
        self.sock.flush()
        self.sock.socket.sendall(data)

    def ask(self, host=None):
        """The status of an answer, and whether the session is a resumed one."""
        host = host or self.target.host
        self.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        # Everything that comes with it, the tickets first.
        while b"\r\n\r\n" not in answer:
            answer += self.read(min=1)
        status = answer.split()[1].decode()
        word = "served" if status == "200" else status
        return f"{word} resumed" if self.resumed else word

    def update_keys(self):
        """And asks the other side to do so too."""
        for _ in self.send_keyupdate_request(KeyUpdateMessageType.update_requested):
            pass
        return self.ask()

    def held(self, name):
        """The session, after a request, for a connection to `name`. The library would not show it to anybody else."""
        assert self.ask().startswith("served")
        session = Session()
        vars(session).update(vars(self.session), serverName=name)
        session.tickets = [copy(ticket) for ticket in self.tickets]
        session.tls_1_0_tickets = [copy(ticket) for ticket in self.tls_1_0_tickets]
        return session

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.socket.close()


class Recorder(Client):
    """Writes its client hello down instead of sending it."""

    def __init__(self, target):
        self.taken = bytearray()
        super().__init__(target, self.take)

    def take(self, _client, msg):
        self.taken = bytearray(msg.write())
        raise StopAsyncIteration

    def hello(self, **how):
        try:
            self.shake(**how)
        except StopAsyncIteration:
            pass
        self.sock.socket.close()
        return record(ContentType.handshake, self.taken, (3, 1))


def outcome(case, target):
    """One word for how it ended: the alert, an answer, or an end without a word."""
    try:
        return case(target)
    except TLSRemoteAlert as alert:
        said = AlertDescription.toStr(alert.description)
        return said if alert.level == AlertLevel.fatal else f"warning {said}"
    except TLSAbruptCloseError:
        return "closed"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except TimeoutError:
        return "silence"
    except TLSLocalAlert as error:
        return f"the client refused: {error}"
